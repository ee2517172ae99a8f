use buildkit_frontend_dockerfile_instructions::Arg;
use buildkit_frontend_dockerfile_linter::checks;
use buildkit_frontend_dockerfile_shell::Env as _;

use super::{SCAN_CONTEXT, SCAN_STAGE};
use crate::Result;
use crate::convert::Converter;
use crate::env::StateEnv;
use crate::outline::ArgInfo;
use crate::stage::StageId;

impl Converter<'_> {
    pub(super) fn arg(&mut self, id: StageId, it: &Arg) -> Result<()> {
        let mut texts = Vec::new();
        for arg in &it.args {
            self.report(checks::secret_in_arg_or_env("ARG", &arg.key), &it.origin);
            let mut arg = arg.clone();
            let given = self.given_arg(&arg.key);
            let mut is_inherited = false;
            match (given, arg.value.take()) {
                (Some(value), _) => arg.value = Some(value),
                (None, None) => {
                    arg.value = self.global_args.get(&arg.key).map(str::to_owned);
                    is_inherited = arg.value.is_some();
                }
                (None, Some(default)) => {
                    let env = StateEnv(self.stages[id].state.clone());
                    let lex = self.lex.clone();
                    arg.value = Some(self.process_word(id, &lex, &default, &env, &it.origin)?);
                }
            }

            self.pass_variables(id)?;
            let stage = &mut self.stages[id];
            if let Some(value) = &arg.value
                && ![SCAN_CONTEXT, SCAN_STAGE].contains(&arg.key.as_str())
            {
                stage.state = stage.state.env(&arg.key, value);
            }
            if !is_inherited {
                stage.outline.own_args.insert(arg.key.clone(), ArgInfo::new(&arg, &it.origin.ranges));
            }
            stage.outline.used_args.insert(arg.key.clone());
            texts.push(match &arg.value {
                Some(value) => format!("{}={value}", arg.key),
                None => arg.key.clone(),
            });
            stage.build_args.push(arg);
        }
        self.note(id, format!("ARG {}", texts.join(" ")))
    }
}
