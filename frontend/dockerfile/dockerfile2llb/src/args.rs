//! Arguments that stand before the first stage.

use std::collections::BTreeMap;

use buildkit_client_llb::ProxyEnv;
use buildkit_frontend_dockerfile_instructions::Arg;
use buildkit_frontend_dockerfile_shell::Lex;

use crate::env::EnvList;
use crate::error::At as _;
use crate::outline::ArgInfo;
use crate::{Error, Result};

/// Values of global arguments, and what is told of them.
pub(crate) type GlobalArgs = (EnvList, BTreeMap<String, ArgInfo>);

/// Adds the global arguments to those that every file has. `given` are those of the user.
pub(crate) fn global(
    mut args: EnvList,
    lex: &Lex,
    definitions: &[Arg],
    given: &BTreeMap<String, String>,
) -> Result<GlobalArgs> {
    let mut infos: BTreeMap<String, ArgInfo> = BTreeMap::new();
    for definition in definitions {
        for arg in &definition.args {
            let mut arg = arg.clone();
            let mut needs = Default::default();
            if let Some(value) = given.get(&arg.key) {
                arg.value = Some(value.clone());
            } else if let Some(default) = arg.value.take() {
                let expansion =
                    lex.process_word(&default, &args).map_err(Error::from).at(&definition.origin.ranges)?;
                arg.value = Some(expansion.result);
                needs = expansion.matched;
                // A default that extends the value before needs what that needed.
                if needs.remove(&arg.key)
                    && let Some(before) = infos.get(&arg.key)
                {
                    needs.extend(before.needs.iter().cloned());
                }
            }
            if let Some(value) = &arg.value {
                args.set(&arg.key, value);
            }
            let info = ArgInfo { needs, ..ArgInfo::new(&arg, &definition.origin.ranges) };
            infos.insert(arg.key.clone(), info);
        }
    }
    Ok((args, infos))
}

/// The proxies that processes are told of, if the user gave any.
pub(crate) fn proxies(given: &BTreeMap<String, String>) -> Option<ProxyEnv> {
    let mut proxies = ProxyEnv::default();
    let mut is_any = false;
    for (name, value) in given {
        let proxy = match name.to_lowercase().as_str() {
            "http_proxy" => &mut proxies.http,
            "https_proxy" => &mut proxies.https,
            "ftp_proxy" => &mut proxies.ftp,
            "no_proxy" => &mut proxies.no,
            "all_proxy" => &mut proxies.all,
            _ => continue,
        };
        proxy.clone_from(value);
        is_any = true;
    }
    is_any.then_some(proxies)
}
