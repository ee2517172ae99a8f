//! What to do about what is wrong with a file. Upstream's texts say only what that is.

use buildkit_frontend_dockerfile_instructions::Error as Instruction;
use buildkit_frontend_dockerfile_parser::Error as Syntax;
use buildkit_frontend_dockerfile_shell::{Cause, Error as Word};

/// An error about which something can be done.
pub(crate) trait Hint {
    /// What can be done; `None` if the text says it.
    fn hint(&self) -> Option<String>;
}

impl Hint for Syntax {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::InvalidEscapeToken(_) => "write `# escape=\\` or \"# escape=`\"",
            Self::DuplicateDirective(_) => "remove one of the two lines",
            Self::LineTooLong => "copy a file with the text in place of writing it into the Dockerfile",
            Self::NoInstructions => "begin with `FROM image`",
            Self::UnterminatedHeredoc => "end it with a line that is the word behind `<<` and nothing else",
            Self::HeredocWord(error) => return error.hint(),
            Self::InconsistentHeredoc(_) => "put quotes around the whole word behind `<<`, or none",
            Self::NotStringArray => "put each word in double quotes: [\"a\", \"b\"]",
            Self::TwoArguments(keyword) => return Some(format!("write `{keyword} name=value`")),
            Self::MissingEquals(_) => "put quotes around a value with spaces: name=\"a b\"",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl Hint for Word {
    fn hint(&self) -> Option<String> {
        let text = match &self.cause {
            Cause::Unclosed(_) => "close it, or put a backslash before it if it means itself",
            Cause::MissingBrace => "close it with `}`, or write `\\$` for a dollar sign",
            Cause::MissingSlash => "write `${name/pattern/replacement}`",
            Cause::BadSubstitution => "write `${name}`, or `\\$` for a dollar sign",
            Cause::UnsupportedModifier(_) => {
                "there are `:-`, `:+`, `:?`, `-`, `+`, `?`, `#`, `##`, `%`, `%%`, `/` and `//`"
            }
            Cause::Required { name, .. } => {
                return Some(format!("give it with --opt build-arg:{name}=VALUE, or a default in an ARG"));
            }
            Cause::InvalidPattern { .. } => "put a backslash before a character that means itself",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl Hint for Instruction {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Instruction { error, .. } => return error.hint(),
            Self::Expand(error) => return error.hint(),
            Self::UnknownInstruction(_) => {
                "if it belongs to the instruction above, end the line before it with a backslash"
            }
            Self::NoStage => "begin with `FROM image`: only ARG may stand before it",
            Self::AtLeastOneArgument(keyword)
            | Self::ExactlyOneArgument(keyword)
            | Self::NoDestination(keyword) => {
                return usage(keyword);
            }
            Self::HeredocDestination(keyword) => return usage(keyword),
            Self::BlankName(keyword) => return usage(keyword),
            Self::FromArguments => return usage("FROM"),
            Self::StageName(_) => "begin it with a letter; letters, digits, `-`, `_` and `.` may follow",
            Self::ChainedOnbuild | Self::Trigger(_) => {
                "a trigger is an instruction that is run when another image is built from this one"
            }
            Self::NotJson(keyword) => return Some(format!("write `{keyword} [\"program\", \"argument\"]`")),
            Self::EmptyVolume => return usage("VOLUME"),
            Self::HealthcheckNoneArguments | Self::HealthcheckNoCommand => return usage("HEALTHCHECK"),
            Self::HealthcheckType(_) => return usage("HEALTHCHECK"),
            Self::Duration(_) | Self::ShortInterval(_) => {
                "write a number with a unit, such as 500ms, 30s or 1m30s"
            }
            Self::Retries { .. } | Self::NegativeRetries(_) => "write a whole number, such as --retries=3",
            Self::UnknownFlag(flag) => {
                return Some(format!(
                    "remove it, or put it behind the program if it is an argument of that: {flag}"
                ));
            }
            Self::DuplicateFlag(_) => "remove one of the two",
            Self::MissingFlagValue(flag) => return Some(format!("write {flag}=VALUE")),
            Self::FlagNotBoolean { flag, .. } => return Some(format!("write {flag}=true or {flag}=false")),
            Self::NetworkMode(_) => "there are default, none and host",
            Self::SecurityMode(_) => "there are sandbox and insecure",
            Self::Csv { .. } => {
                "write key=value pairs with commas between them, and quotes around one that has a comma"
            }
            Self::FieldWithoutValue(field) => return Some(format!("write {field}=VALUE")),
            Self::UnexpectedKey { .. } => {
                "there are type, from, source, target, id, sharing, size, mode, uid, gid, env, readonly and required"
            }
            Self::KeyOfOtherMount { kind, .. } => {
                return Some(format!("remove it, or use another type than {kind}"));
            }
            Self::FieldValue { .. } => "write true or false",
            Self::MountNumber { .. } => "write a number; modes are octal, such as 0755",
            Self::NotExpanded(_) => "add a stage `FROM $NAME AS other`, and write from=other",
            Self::MountType(_) => "there are bind, cache, tmpfs, secret and ssh",
            Self::ShareMode(_) => "there are shared, private and locked",
            Self::FileInfo { .. } => "cache, secret and ssh mounts have an owner and a mode",
            Self::SharingWithoutCache(_) => "remove it, or write type=cache",
            Self::Secret(_) => "write --mount=type=secret,id=NAME, with target=PATH or env=NAME",
            Self::DeviceName(_) => "write one --device for each device",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// How an instruction is written.
fn usage(keyword: &str) -> Option<String> {
    let form = match keyword {
        "ADD" | "COPY" => "source… destination",
        "ARG" => "name[=default]",
        "CMD" | "ENTRYPOINT" | "RUN" => "command",
        "ENV" | "LABEL" => "name=value",
        "EXPOSE" => "port[/protocol]",
        "FROM" => "image [AS name]",
        "HEALTHCHECK" => "[--interval=30s] CMD command` or `HEALTHCHECK NONE",
        "MAINTAINER" => "name",
        "ONBUILD" => "instruction",
        "SHELL" => "[\"program\", \"argument\"]",
        "STOPSIGNAL" => "signal",
        "USER" => "user[:group]",
        "VOLUME" | "WORKDIR" => "path",
        _ => return None,
    };
    Some(format!("write `{keyword} {form}`"))
}
