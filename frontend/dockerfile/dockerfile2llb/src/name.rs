//! Names of steps, as progress shows them.

use buildkit_frontend_dockerfile_parser::Range;
use buildkit_frontend_dockerfile_shell::{Env, Lex};
use buildkit_util_ocispec::Platform;

use crate::platform;
use crate::stage::StageState;

/// Key of the description that holds an instruction as it was written.
const COMMAND: &str = "com.docker.dockerfile.v1.command";

/// Says which instruction an op comes from.
pub(crate) fn command<C: buildkit_client_llb::Constrained>(op: C, code: &str) -> C {
    op.description(COMMAND, code)
}

/// The lines of an instruction in the words of graphs.
pub(crate) fn llb_ranges(ranges: &[Range]) -> Vec<buildkit_client_llb::Range> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let position =
        |at: &buildkit_frontend_dockerfile_parser::Position| (number(at.line), number(at.character));
    ranges
        .iter()
        .map(|range| buildkit_client_llb::Range { start: position(&range.start), end: position(&range.end) })
        .collect()
}

/// The instruction with its variables replaced, where that can be done.
pub(crate) fn expanded(lex: &Lex, code: &str, env: &dyn Env) -> String {
    let code = lex.process_word(code, env).map_or_else(|_| code.to_owned(), |word| word.result);
    match code.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => code.to_uppercase(),
    }
}

/// `[PLATFORM STAGE N/M] TEXT`; counts the step.
pub(crate) fn step(
    stage: &mut StageState,
    text: &str,
    with_platform: bool,
    platform: Option<&Platform>,
    env: &dyn Env,
) -> String {
    if stage.steps == 0 {
        return text.to_owned();
    }
    stage.step += 1;
    let mut out = String::from("[");
    if let Some(platform) = platform.filter(|_| with_platform) {
        let target = platform::format_target(platform, platform::of_variables(env));
        out.push_str(&format!("{}{target} ", platform::format_all(platform)));
    }
    if !stage.name.is_empty() {
        out.push_str(&format!("{} ", stage.name));
    }
    let width = stage.steps.to_string().len();
    out.push_str(&format!("{:width$}/{}] ", stage.step, stage.steps));
    if stage.is_in_trigger {
        out.push_str("ONBUILD ");
    }
    out + text
}

/// The first line of a here-document.
pub(crate) fn summary(document: &str) -> String {
    let document = document.trim().replace("\r\n", "\n");
    match document.split_once('\n') {
        Some((first, _)) => format!("{first}..."),
        None => document,
    }
}
