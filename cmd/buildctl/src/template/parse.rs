//! What the tokens of a template mean.

use anyhow::{Context as _, Result, bail};

use super::data::Data;
use super::lex::{Kind, Piece, Token, pieces};

/// A part of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipe),
    /// The first true branch, or the last part.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    /// As `If`, with the value as the dot.
    With(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// Commands of which each gets the value of the one before it.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Variables that take the value.
    pub(super) variables: Vec<String>,
    /// Whether they are there already.
    pub(super) is_assignment: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Variable(String),
    Literal(Data),
    Function(String),
    Group(Pipe),
    /// Fields, one after the other.
    Fields(Box<Operand>, Vec<String>),
}

/// What ended a list of nodes.
enum End {
    Template,
    Block,
    Else(Vec<Token>),
}

/// Parses a whole template.
pub(super) fn parse(template: &str) -> Result<Vec<Node>> {
    let mut pieces = pieces(template)?.into_iter();
    match nodes(&mut pieces, 0)? {
        (nodes, End::Template) => Ok(nodes),
        _ => bail!("Template has an `{{{{end}}}}` or `{{{{else}}}}` outside of a block"),
    }
}

type Pieces = std::vec::IntoIter<Piece>;

fn nodes(pieces: &mut Pieces, loops: usize) -> Result<(Vec<Node>, End)> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let mut tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let word = match tokens.first().map(|token| &token.kind) {
            Some(Kind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let alone = tokens.len() == 1;
        nodes.push(match word.as_str() {
            "end" if alone => return Ok((nodes, End::Block)),
            "else" => return Ok((nodes, End::Else(tokens.split_off(1)))),
            "break" if alone && loops > 0 => Node::Break,
            "continue" if alone && loops > 0 => Node::Continue,
            "if" | "with" => {
                let (branches, otherwise) = branches(pieces, &word, tokens.split_off(1), loops)?;
                if word == "if" { Node::If(branches, otherwise) } else { Node::With(branches, otherwise) }
            }
            "range" => {
                let pipe = pipe(tokens.split_off(1))?;
                let (body, end) = self::nodes(pieces, loops + 1)?;
                let otherwise = match end {
                    End::Block => Vec::new(),
                    End::Else(more) if more.is_empty() => last(pieces, loops)?,
                    End::Else(_) => bail!("Template has a condition at the `{{{{else}}}}` of a range"),
                    End::Template => return unended(),
                };
                Node::Range(pipe, body, otherwise)
            }
            "end" | "break" | "continue" | "define" | "template" | "block" => {
                bail!("Template action `{word}` is not supported here")
            }
            _ => Node::Print(pipe(tokens)?),
        });
    }
    Ok((nodes, End::Template))
}

fn unended<T>() -> Result<T> {
    bail!("Template ends inside of a block: `{{{{end}}}}` is missing")
}

type Branches = (Vec<(Pipe, Vec<Node>)>, Vec<Node>);

fn branches(pieces: &mut Pieces, word: &str, condition: Vec<Token>, loops: usize) -> Result<Branches> {
    let mut branches = Vec::new();
    let mut condition = pipe(condition)?;
    loop {
        let (body, end) = nodes(pieces, loops)?;
        branches.push((condition, body));
        condition = match end {
            End::Block => return Ok((branches, Vec::new())),
            End::Template => return unended(),
            End::Else(more) if more.is_empty() => return Ok((branches, last(pieces, loops)?)),
            End::Else(mut more) => match &more[0].kind {
                Kind::Word(next) if next == word => pipe(more.split_off(1))?,
                _ => bail!("Template has an `{{{{else}}}}` with something else"),
            },
        };
    }
}

/// The part after an `{{else}}`.
fn last(pieces: &mut Pieces, loops: usize) -> Result<Vec<Node>> {
    match nodes(pieces, loops)? {
        (nodes, End::Block) => Ok(nodes),
        (_, End::Template) => unended(),
        (_, End::Else(_)) => bail!("Template has two `{{{{else}}}}` in one block"),
    }
}

fn pipe(tokens: Vec<Token>) -> Result<Pipe> {
    let mut tokens = tokens.into_iter().peekable();
    let pipe = pipe_until(&mut tokens, false)?;
    Ok(pipe)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn pipe_until(tokens: &mut Tokens, in_group: bool) -> Result<Pipe> {
    let (variables, is_assignment) = if in_group { (Vec::new(), false) } else { declaration(tokens)? };
    let mut commands = vec![Vec::new()];
    loop {
        let Some(token) = tokens.next() else {
            if in_group {
                bail!("Template has a `(` without its `)`");
            }
            break;
        };
        let command = commands.last_mut().context("there is always one")?;
        let operand = match token.kind {
            Kind::Mark(')') if in_group => break,
            Kind::Mark('|') if !command.is_empty() => {
                commands.push(Vec::new());
                continue;
            }
            Kind::Mark('(') => Operand::Group(pipe_until(tokens, true)?),
            Kind::Mark(mark) => bail!("Template has an unexpected `{mark}` in an action"),
            Kind::Dot => Operand::Dot,
            Kind::Field(name) => match command.pop() {
                // `.A.B`, `$x.A` and `(…).A`: fields of what stands before them.
                Some(Operand::Fields(of, mut names)) if token.is_glued => {
                    names.push(name);
                    Operand::Fields(of, names)
                }
                Some(of) if token.is_glued => Operand::Fields(Box::new(of), vec![name]),
                before => {
                    command.extend(before);
                    Operand::Fields(Box::new(Operand::Dot), vec![name])
                }
            },
            Kind::Variable(name) => Operand::Variable(name),
            Kind::Literal(value) => Operand::Literal(value),
            Kind::Word(word) => match word.as_str() {
                "true" => Operand::Literal(Data::Bool(true)),
                "false" => Operand::Literal(Data::Bool(false)),
                "nil" => Operand::Literal(Data::Null),
                _ if super::eval::is_function(&word) => Operand::Function(word),
                _ => bail!("Template function `{word}` is not defined"),
            },
        };
        command.push(operand);
    }
    if commands.iter().any(Vec::is_empty) {
        bail!("Template has an action without a value");
    }
    Ok(Pipe { variables, is_assignment, commands })
}

/// `$x :=`, `$x =` or `$i, $x :=` at the start of an action.
fn declaration(tokens: &mut Tokens) -> Result<(Vec<String>, bool)> {
    let ahead: Vec<Kind> = tokens.clone().take(4).map(|token| token.kind).collect();
    let (variables, mark) = match &ahead[..] {
        [Kind::Variable(one), Kind::Mark(mark @ (':' | '=')), ..] => (vec![one.clone()], *mark),
        [Kind::Variable(one), Kind::Mark(','), Kind::Variable(two), Kind::Mark(mark @ (':' | '='))] => {
            (vec![one.clone(), two.clone()], *mark)
        }
        _ => return Ok((Vec::new(), false)),
    };
    for _ in 0..variables.len() * 2 {
        tokens.next();
    }
    Ok((variables, mark == '='))
}
