use buildkit_frontend_dockerfile_parser::{Ast, KEYWORDS, Located, Node};

use crate::commands::{arg, expose, onbuild, run, shell, volume};
use crate::error::At;
use crate::files::{add, copy};
use crate::health::healthcheck;
use crate::request::Request;
use crate::stage::stage;
use crate::{
    Arg, Cmd, Entrypoint, Env, Error, Finding, FindingKind, Instruction, Label, Maintainer, Stage,
    StopSignal, User, Workdir,
};

/// A Dockerfile whose instructions have their meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The stages, in their order.
    pub stages: Vec<Stage>,
    /// The `ARG`s before the first stage.
    pub args: Vec<Arg>,
}

/// Gives all instructions of a file their meaning.
///
/// ```
/// use buildkit_frontend_dockerfile_instructions::{Instruction, parse};
///
/// let ast = buildkit_frontend_dockerfile_parser::parse(b"ARG V=3\nFROM alpine:$V AS base\nUSER me\n")?;
/// let parsed = parse(&ast)?;
/// assert_eq!(parsed.stages[0].name, "base");
/// assert!(matches!(&parsed.stages[0].instructions[0], Instruction::User(it) if it.user == "me"));
///
/// let wrong = buildkit_frontend_dockerfile_parser::parse(b"FROM alpine\nCPOY a b\n")?;
/// let error = parse(&wrong).unwrap_err();
/// assert_eq!(
///     error.in_file("Dockerfile"),
///     "Dockerfile:2:1: dockerfile parse error on line 2: unknown instruction: CPOY (did you mean COPY?)"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first instruction that has none, and where.
pub fn parse(ast: &Ast) -> Result<Parsed, Located<Error>> {
    parse_with(ast, &mut |_| ())
}

/// As [`parse`], and tells a linter what is seen on the way, up to an error.
///
/// # Errors
/// As for [`parse`].
pub fn parse_with(ast: &Ast, found: &mut dyn FnMut(Finding)) -> Result<Parsed, Located<Error>> {
    let mut parsed = Parsed::default();
    for node in &ast.nodes {
        let line = |error| Error::Instruction { line: node.start_line, error: Box::new(error) };
        match read(node, found).map_err(|error| error.map(line))? {
            Meaning::Stage(stage) => parsed.stages.push(*stage),
            Meaning::Instruction(instruction) => match (parsed.stages.last_mut(), *instruction) {
                (Some(stage), instruction) => stage.instructions.push(instruction),
                (None, Instruction::Arg(arg)) => parsed.args.push(arg),
                (None, _) => return Err(Located::new(Error::NoStage, node.ranges(), node.position(0))),
            },
        }
    }
    Ok(parsed)
}

/// Gives an instruction of a stage its meaning.
///
/// # Errors
/// It has none, or is a `FROM`.
pub fn parse_instruction(node: &Node) -> Result<Instruction, Located<Error>> {
    match read(node, &mut |_| ())? {
        Meaning::Instruction(instruction) => Ok(*instruction),
        Meaning::Stage(_) => Err(Located::new(Error::NotInStage, node.ranges(), node.position(0))),
    }
}

enum Meaning {
    Stage(Box<Stage>),
    Instruction(Box<Instruction>),
}

fn read(node: &Node, found: &mut dyn FnMut(Finding)) -> Result<Meaning, Located<Error>> {
    meaning(node, &mut Report { node, found }).map_err(|At { error, offset }| {
        Located::new(error, node.ranges(), node.position(offset.unwrap_or_default()))
    })
}

fn meaning(node: &Node, report: &mut Report<'_>) -> Result<Meaning, At> {
    let keyword = node.keyword.to_lowercase();
    let request = |keyword| Request::new(node, keyword);
    let instruction = match keyword.as_str() {
        "from" => return stage(&request("FROM"), report).map(|stage| Meaning::Stage(Box::new(stage))),
        "add" => Instruction::Add(add(&request("ADD"))?),
        "arg" => Instruction::Arg(arg(&request("ARG"), report)?),
        "copy" => Instruction::Copy(copy(&request("COPY"))?),
        "expose" => Instruction::Expose(expose(&request("EXPOSE"))?),
        "healthcheck" => Instruction::Healthcheck(healthcheck(&request("HEALTHCHECK"))?),
        "onbuild" => Instruction::Onbuild(onbuild(&request("ONBUILD"))?),
        "run" => Instruction::Run(run(&request("RUN"))?),
        "shell" => Instruction::Shell(shell(&request("SHELL"))?),
        "volume" => Instruction::Volume(volume(&request("VOLUME"))?),
        "maintainer" => {
            report.found(FindingKind::Maintainer);
            short(&request("MAINTAINER"))?
        }
        "cmd" => short(&request("CMD"))?,
        "entrypoint" => short(&request("ENTRYPOINT"))?,
        "env" => short(&request("ENV"))?,
        "label" => short(&request("LABEL"))?,
        "stopsignal" => short(&request("STOPSIGNAL"))?,
        "user" => short(&request("USER"))?,
        "workdir" => short(&request("WORKDIR"))?,
        _ => {
            let error = Error::UnknownInstruction(node.keyword.clone());
            return Err(error.suggesting(&node.keyword, &KEYWORDS, false).into());
        }
    };
    Ok(Meaning::Instruction(Box::new(instruction)))
}

/// The instructions that are no more than their arguments.
fn short(request: &Request<'_>) -> Result<Instruction, At> {
    let origin = request.origin();
    // `STOPSIGNAL` takes no offence at flags; others say first what is wrong with their arguments.
    match request.keyword {
        "MAINTAINER" => {
            let maintainer = request.one_word()?;
            request.no_flags()?;
            Ok(Instruction::Maintainer(Maintainer { origin, maintainer }))
        }
        "STOPSIGNAL" => Ok(Instruction::StopSignal(StopSignal { origin, signal: request.one_word()? })),
        "USER" => {
            let user = request.one_word()?;
            request.no_flags()?;
            Ok(Instruction::User(User { origin, user }))
        }
        "WORKDIR" => {
            let path = request.one_word()?;
            request.no_flags()?;
            Ok(Instruction::Workdir(Workdir { origin, path }))
        }
        keyword => {
            request.no_flags()?;
            Ok(match keyword {
                "ENV" => Instruction::Env(Env { origin, env: request.pairs()? }),
                "LABEL" => Instruction::Label(Label { origin, labels: request.pairs()?, literal: false }),
                "ENTRYPOINT" => Instruction::Entrypoint(Entrypoint { origin, command: request.command() }),
                _ => Instruction::Cmd(Cmd { origin, command: request.command() }),
            })
        }
    }
}

/// Tells a linter of an instruction.
pub(crate) struct Report<'a> {
    node: &'a Node,
    found: &'a mut dyn FnMut(Finding),
}

impl Report<'_> {
    pub(crate) fn found(&mut self, kind: FindingKind) {
        let (ranges, comments) = (self.node.ranges(), self.node.comments.clone());
        (self.found)(Finding { kind, ranges, comments });
    }

    /// Looks whether the comment right above describes one of `keys`.
    pub(crate) fn description(&mut self, instruction: &'static str, keys: &[String]) {
        let Some(comment) = self.node.comments.last() else { return };
        let described = comment.split(' ').next().unwrap_or_default();
        if keys.iter().any(|key| key == described) {
            return;
        }
        let key = match keys {
            [key] => key.clone(),
            _ => "<arg_key>".to_owned(),
        };
        self.found(FindingKind::DefinitionDescription { instruction, key });
    }
}
