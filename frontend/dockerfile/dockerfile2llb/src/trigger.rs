use buildkit_frontend_dockerfile_instructions::Instruction;
use buildkit_frontend_dockerfile_parser::{self as parser, Range};

use crate::{Error, Result};

/// The instruction that an image has for those who build upon it, as if it stood at `ranges`.
pub(crate) fn parse(trigger: &str, ranges: &[Range]) -> Result<Instruction> {
    let mut ast = parser::parse(trigger.as_bytes())?;
    if ast.nodes.len() != 1 {
        return Err(Error::invalid("onbuild trigger should be a single expression")
            .hint("write one ONBUILD for each instruction"));
    }
    let node = &mut ast.nodes[0];
    node.start_line = ranges.iter().map(|range| range.start.line).min().unwrap_or(0);
    node.end_line = ranges.iter().map(|range| range.end.line).max().unwrap_or(0);
    Ok(buildkit_frontend_dockerfile_instructions::parse_instruction(node)?)
}
