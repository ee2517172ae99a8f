use buildkit_frontend_dockerfile_instructions::Expose;
use buildkit_frontend_dockerfile_linter::checks;
use buildkit_util_ocispec::Empty;

use super::ports;
use crate::convert::Converter;
use crate::env::StateEnv;
use crate::stage::StageId;
use crate::{Error, Result, format};

impl Converter<'_> {
    pub(super) fn expose(&mut self, id: StageId, it: &Expose) -> Result<()> {
        let env = StateEnv(self.stages[id].state.clone());
        let mut exposed = Vec::new();
        for word in &it.ports {
            let expansion = self.lex.process_word(word, &env).map_err(Error::from)?;
            for spec in &expansion.words {
                let parsed = ports::parse(spec).map_err(|error| {
                    error.hint("write port[/protocol] or first-last[/protocol], with tcp, udp or sctp")
                })?;
                self.report(checks::expose_protocol_casing(spec), &it.origin);
                self.report(checks::expose_format(spec), &it.origin);
                exposed.extend(parsed.ports()?);
            }
        }
        let config = &mut self.stages[id].image.config;
        config.exposed_ports.extend(exposed.iter().map(|port| (port.clone(), Empty {})));
        self.note(id, format!("EXPOSE {}", format::words(&exposed)));
        Ok(())
    }
}
