use std::fmt::{self, Display, Formatter};

use buildkit_util_gotext::quoted;

use crate::{Args, Ast, Node};

/// One line for each instruction, as upstream dumps them: `(run ["--flag"] "words" "in quotes")`.
impl Display for Ast {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, node) in self.nodes.iter().enumerate() {
            let line_end = if i == 0 { "" } else { "\n" };
            write!(f, "{line_end}({node})")?;
        }
        Ok(())
    }
}

/// The instruction without the brackets around; a pair is its key, its value and what separates them.
impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.keyword.is_empty() {
            parts.push(self.keyword.to_lowercase());
        }
        if !self.flags.is_empty() {
            let flags: Vec<String> = self.flags.iter().map(|flag| quoted(&flag.text)).collect();
            parts.push(format!("[{}]", flags.join(" ")));
        }
        match &self.args {
            Args::Words(words) => parts.extend(words.iter().map(|word| quoted(&word.text))),
            Args::Pairs(pairs) => parts.extend(pairs.iter().flat_map(|pair| {
                let separator = if pair.legacy { "" } else { "=" };
                [quoted(&pair.key.text), quoted(&pair.value.text), quoted(separator)]
            })),
            Args::Trigger(trigger) => parts.push(format!("({trigger})")),
        }
        f.write_str(&parts.join(" "))
    }
}
