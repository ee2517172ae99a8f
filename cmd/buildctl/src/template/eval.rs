//! What a template writes for some data.

use std::borrow::Cow;
use std::cmp::Ordering;

use anyhow::{Context as _, Result, bail};

use super::data::Data;
use super::parse::{Node, Operand, Pipe};
use super::printf;

type Value<'a> = Cow<'a, Data>;

/// Names of functions.
const FUNCTIONS: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "json", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println", "slice",
];

/// Whether there is a function of this name.
pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// Whether a loop goes on.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// The text of a template for `data`.
pub(super) fn render(nodes: &[Node], data: &Data) -> Result<String> {
    let root = Cow::Borrowed(data);
    let mut run = Run { out: String::new(), variables: vec![(String::new(), root.clone())] };
    run.nodes(nodes, &root)?;
    Ok(run.out)
}

struct Run<'a> {
    out: String,
    /// By name, the innermost last; the first, without a name, is what the template is applied to.
    variables: Vec<(String, Value<'a>)>,
}

impl<'a> Run<'a> {
    /// A block: what it declares ends with it.
    fn nodes(&mut self, nodes: &[Node], dot: &Value<'a>) -> Result<Flow> {
        let outer = self.variables.len();
        let mut flow = Flow::Next;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::Next {
                break;
            }
        }
        self.variables.truncate(outer);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value<'a>) -> Result<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.print());
                } else {
                    self.keep(pipe, &[value])?;
                }
            }
            Node::If(branches, otherwise) | Node::With(branches, otherwise) => {
                let is_with = matches!(node, Node::With(..));
                let outer = self.variables.len();
                let mut body = (otherwise, dot.clone());
                for (condition, then) in branches {
                    let value = self.pipe(condition, dot)?;
                    self.keep(condition, std::slice::from_ref(&value))?;
                    if value.is_true() {
                        body = (then, if is_with { value } else { dot.clone() });
                        break;
                    }
                }
                let flow = self.nodes(body.0, &body.1)?;
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::Range(pipe, body, otherwise) => {
                let items = items(self.pipe(pipe, dot)?)?;
                if items.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                let outer = self.variables.len();
                for (key, item) in items {
                    match pipe.variables.len() {
                        0 => {}
                        1 => self.keep(pipe, std::slice::from_ref(&item))?,
                        _ => self.keep(pipe, &[key, item.clone()])?,
                    }
                    let flow = self.nodes(body, &item)?;
                    self.variables.truncate(outer);
                    if flow == Flow::Break {
                        break;
                    }
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Gives the values to the variables of a pipe.
    fn keep(&mut self, pipe: &Pipe, values: &[Value<'a>]) -> Result<()> {
        if pipe.variables.len() > values.len() {
            bail!("Template declares two variables outside of a range");
        }
        for (name, value) in pipe.variables.iter().zip(values) {
            if pipe.is_assignment {
                *self.variable(name)? = value.clone();
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<&mut Value<'a>> {
        let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).with_context(|| format!("Template has no variable `${name}`"))
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value<'a>) -> Result<Value<'a>> {
        let mut before = None;
        for command in &pipe.commands {
            before = Some(self.command(command, dot, before)?);
        }
        before.context("Template has an action without a value")
    }

    fn command(
        &mut self,
        command: &[Operand],
        dot: &Value<'a>,
        before: Option<Value<'a>>,
    ) -> Result<Value<'a>> {
        let Some((first, rest)) = command.split_first() else {
            bail!("Template has an action without a value")
        };
        let Operand::Function(name) = first else {
            if !rest.is_empty() || before.is_some() {
                bail!("Template gives an argument to what is no function");
            }
            return self.operand(first, dot);
        };
        // These look at no more than they need.
        if let "and" | "or" = name.as_str() {
            let mut value = None;
            for operand in rest {
                let next = self.operand(operand, dot)?;
                let is_decided = next.is_true() == (name == "or");
                value = Some(next);
                if is_decided {
                    break;
                }
            }
            let is_decided = value.as_ref().is_some_and(|value| value.is_true() == (name == "or"));
            let last = if is_decided { value } else { before.or(value) };
            return last.with_context(|| format!("wrong number of args for {name}"));
        }
        let mut args =
            rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<Value<'a>>>>()?;
        args.extend(before);
        call(name, &args).with_context(|| format!("Template function `{name}` failed"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value<'a>) -> Result<Value<'a>> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Variable(name) => self.variable(name).cloned(),
            Operand::Literal(value) => Ok(Cow::Owned(value.clone())),
            Operand::Function(name) => {
                call(name, &[]).with_context(|| format!("Template function `{name}` failed"))
            }
            Operand::Group(pipe) => self.pipe(pipe, dot),
            Operand::Fields(of, names) => {
                names.iter().try_fold(self.operand(of, dot)?, |value, name| match value {
                    Cow::Borrowed(data) => Ok(Cow::Borrowed(data.field(name)?)),
                    Cow::Owned(data) => Ok(Cow::Owned(data.field(name)?.clone())),
                })
            }
        }
    }
}

/// Keys and items of what a range goes over.
fn items(value: Value<'_>) -> Result<Vec<(Value<'_>, Value<'_>)>> {
    fn number<'a>(number: usize) -> Value<'a> {
        Cow::Owned(Data::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }
    Ok(match value {
        Cow::Borrowed(Data::List(items)) => {
            items.iter().enumerate().map(|(at, item)| (number(at), Cow::Borrowed(item))).collect()
        }
        Cow::Owned(Data::List(items)) => {
            items.into_iter().enumerate().map(|(at, item)| (number(at), Cow::Owned(item))).collect()
        }
        value => match value.into_owned() {
            Data::Null | Data::NoList | Data::Missing => Vec::new(),
            Data::Map(entries) => entries
                .into_iter()
                .map(|(key, item)| (Cow::Owned(Data::Text(key)), Cow::Owned(item)))
                .collect(),
            other => bail!("range can't iterate over {}", other.print()),
        },
    })
}

fn call<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>> {
    let int = |number: usize| Data::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let value = match (name, args) {
        ("json", [value]) => {
            let mut out = String::new();
            value.json(&mut out);
            Data::Text(out)
        }
        ("len", [value]) => int(value.length()?),
        ("not", [value]) => Data::Bool(!value.is_true()),
        ("index", [value, keys @ ..]) => {
            keys.iter().try_fold(value.clone().into_owned(), |value, key| index(&value, key))?
        }
        ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
        ("eq", [one, others @ ..]) if !others.is_empty() => {
            let mut equal = false;
            for other in others {
                equal |= compare(one, other)? == Ordering::Equal;
            }
            Data::Bool(equal)
        }
        ("ne", [one, other]) => Data::Bool(compare(one, other)? != Ordering::Equal),
        ("lt", [one, other]) => Data::Bool(order(one, other)? == Ordering::Less),
        ("le", [one, other]) => Data::Bool(order(one, other)? != Ordering::Greater),
        ("gt", [one, other]) => Data::Bool(order(one, other)? == Ordering::Greater),
        ("ge", [one, other]) => Data::Bool(order(one, other)? != Ordering::Less),
        ("print", args) => Data::Text(printf::print(args)),
        ("println", args) => {
            let words: Vec<String> = args.iter().map(|arg| arg.print()).collect();
            Data::Text(format!("{}\n", words.join(" ")))
        }
        ("printf", [format, args @ ..]) => match &**format {
            Data::Text(format) => Data::Text(printf::printf(format, args)),
            other => bail!("expected string; found {}", other.print()),
        },
        _ => bail!("wrong number of args"),
    };
    Ok(Cow::Owned(value))
}

fn index(value: &Data, key: &Data) -> Result<Data> {
    match (value, key) {
        (Data::Map(entries), Data::Text(key)) => {
            // The empty value of the map's type, which is a text in all that there are.
            let found = entries.iter().find(|(known, _)| known == key);
            Ok(found.map_or_else(|| Data::Text(String::new()), |(_, value)| value.clone()))
        }
        (Data::List(items), Data::Int(at)) => {
            let item = usize::try_from(*at).ok().and_then(|at| items.get(at));
            item.cloned().with_context(|| format!("index out of range: {at}"))
        }
        (Data::Text(text), Data::Int(at)) => {
            let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            byte.map(|byte| Data::Int(i64::from(*byte))).with_context(|| format!("index out of range: {at}"))
        }
        (Data::NoList, Data::Int(at)) => bail!("index out of range: {at}"),
        _ => bail!("can't index item of type {} by {}", value.kind(), key.kind()),
    }
}

fn slice(value: &Data, bounds: &[Value<'_>]) -> Result<Data> {
    let length = value.length()?;
    let bound = |at: usize, default: usize| match bounds.get(at).map(|bound| &**bound) {
        None => Ok(default),
        Some(Data::Int(number)) => usize::try_from(*number)
            .ok()
            .filter(|number| *number <= length)
            .with_context(|| format!("index out of range: {number}")),
        Some(other) => bail!("cannot index slice with type {}", other.kind()),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to || bounds.len() > 2 {
        bail!("invalid slice index: {from} > {to}");
    }
    match value {
        Data::Text(text) => {
            let part = text.get(from..to).context("the slice cuts a character")?;
            Ok(Data::Text(part.to_owned()))
        }
        Data::List(items) => Ok(Data::List(items[from..to].to_vec())),
        Data::NoList => Ok(Data::NoList),
        other => bail!("can't slice item of type {}", other.kind()),
    }
}

/// Whether two values are equal, or in which order they are.
fn compare(one: &Data, other: &Data) -> Result<Ordering> {
    let unequal_unless = |equal: bool| Ok(if equal { Ordering::Equal } else { Ordering::Less });
    match (one, other) {
        (Data::Bool(one), Data::Bool(other)) => Ok(one.cmp(other)),
        (Data::Null | Data::NoList | Data::Missing, other)
        | (other, Data::Null | Data::NoList | Data::Missing) => {
            unequal_unless(matches!(other, Data::Null | Data::NoList | Data::Missing))
        }
        _ => order(one, other),
    }
}

fn order(one: &Data, other: &Data) -> Result<Ordering> {
    match (one, other) {
        (Data::Int(one), Data::Int(other)) => Ok(one.cmp(other)),
        (Data::Text(one), Data::Text(other)) => Ok(one.cmp(other)),
        _ => bail!("incompatible types for comparison: {} and {}", one.kind(), other.kind()),
    }
}
