use buildkit_frontend_dockerfile_instructions::Expose;
use buildkit_frontend_dockerfile_linter::checks;
use buildkit_util_ocispec::Empty;

use super::ports;
use crate::budget::size_of_texts;
use crate::convert::Converter;
use crate::env::StateEnv;
use crate::stage::StageId;
use crate::{Error, Result, format};

impl Converter<'_> {
    pub(super) fn expose(&mut self, id: StageId, it: &Expose) -> Result<()> {
        let env = StateEnv(self.stages[id].state.clone());
        let mut specs = Vec::new();
        for word in &it.ports {
            let words = self.lex.process_words(word, &env);
            specs.extend(words.map_err(Error::from)?);
        }
        let mut exposed = Vec::new();
        for spec in &specs {
            let parsed = ports::parse(spec).map_err(|error| {
                error.hint("write port[/protocol] or first-last[/protocol], with tcp, udp or sctp")
            })?;
            self.report(checks::expose_protocol_casing(spec), &it.origin);
            self.report(checks::expose_format(spec), &it.origin);
            let ports = parsed.ports()?;
            self.options.budget.take(size_of_texts(ports.iter().map(String::as_str)))?;
            exposed.extend(ports);
        }
        let config = &mut self.stages[id].image.config;
        config.exposed_ports.extend(exposed.iter().map(|port| (port.clone(), Empty {})));
        self.note(id, format!("EXPOSE {}", format::words(&exposed)))
    }
}
