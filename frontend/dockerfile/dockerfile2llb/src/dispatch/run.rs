use std::collections::HashMap;
use std::collections::hash_map::Entry;

use buildkit_client_llb::{
    Constrained as _, FileActions, Mount, Network, Run as Process, Security, mkfile, scratch,
};
use buildkit_client_llb_sourceresolver::{platform_of, platform_to};
use buildkit_frontend_dockerfile_instructions::{ArgDefinition, MountType, NetworkMode, Run, SecurityMode};
use buildkit_frontend_dockerfile_parser::{Heredoc, chomp};
use buildkit_frontend_dockerfile_shell::Env;
use buildkit_solver_pb::caps;

use crate::budget::size_of_texts;
use crate::convert::Converter;
use crate::env::{Masked, StateEnv};
use crate::stage::StageId;
use crate::{Error, Result, name};

/// Where here-documents that say themselves what runs them are mounted.
const DOCUMENTS: &str = "/dev/pipes/";
const SHARED_MEMORY: &str = "/dev/shm";

impl Converter<'_> {
    pub(super) fn run(&mut self, id: StageId, it: &Run, sources: &[StageId]) -> Result<()> {
        // It can read any file.
        self.stages.mark_used(id, "/".to_owned());
        self.take_variables(id)?;
        let hosts = self.options.config.extra_hosts.iter().map(|(host, _)| host.as_str());
        let limits = self.options.config.ulimits.iter().map(|_| "");
        self.options.budget.take(size_of_texts(hosts.chain(limits)))?;

        let mut title = it.origin.code.clone();
        let mut process = self.stages[id].state.run();
        let mut words = it.command.words.clone();
        if let Some(first) = it.command.files.first() {
            let [line] = it.command.words.as_slice() else {
                return Err(invalid_words(&it.command.words));
            };
            if !it.command.prepend_shell {
                return Err(invalid_words(&it.command.words));
            }
            if Heredoc::from_word(line)?.is_some() {
                let document = if first.chomp { chomp(&first.data) } else { first.data.clone() };
                let is_windows = self.stages[id].image.platform.os == super::WINDOWS;
                if !is_windows && document.starts_with("#!") {
                    let file = self.document_file(id, &first.name, &document);
                    process = process.mount(DOCUMENTS, Mount::bind(&file).selector("/").readonly());
                    words = vec![buildkit_util_gopath::join([DOCUMENTS, &first.name])];
                } else {
                    words = vec![document];
                }
                title.push_str(&format!(" ({})", name::summary(&first.data)));
            } else {
                // The shell reads the documents.
                let mut script = line.clone();
                for file in &it.command.files {
                    script.push_str(&format!("\n{}{}", file.data, file.name));
                }
                words = vec![script];
            }
        }
        if it.command.prepend_shell {
            words = self.stages[id].with_shell(&words);
        }
        process = name::command(process.args(words.clone()), &it.origin.code)
            .location(&self.options.source_map, name::llb_ranges(&it.origin.ranges));
        if self.stages[id].ignores_cache {
            process = process.ignore_cache();
        }
        if let Some(proxy) = &self.proxy {
            process = process.proxy(proxy.clone());
        }
        process = self.run_mounts(id, it, sources, process)?;
        process = match it.security {
            SecurityMode::Sandbox => process.security(Security::Sandbox),
            SecurityMode::Insecure => process.security(Security::Insecure),
        };
        process = match it.network {
            NetworkMode::Default => process,
            NetworkMode::None => process.network(Network::None),
            NetworkMode::Host => process.network(Network::Host),
        };
        process = self.limits(it, process)?;

        let env = StateEnv(self.stages[id].state.clone());
        process = process.custom_name(&self.run_name(id, it, &title, &env));
        for (host, ip) in &self.options.config.extra_hosts {
            process = process.extra_host(host, *ip);
        }

        let text = command_text(&words, &self.stages[id].build_args, &env);
        self.stages[id].state = process.root();
        self.note_layer(id, format!("RUN {text} # buildkit"))
    }

    fn run_name(&mut self, id: StageId, it: &Run, title: &str, env: &StateEnv) -> String {
        let secrets: Vec<String> = it
            .mounts
            .iter()
            .filter(|mount| mount.kind == MountType::Secret)
            .filter_map(|mount| mount.env.clone())
            .collect();
        let mut lex = self.lex.clone();
        (lex.raw_quotes, lex.skip_unset_env) = (true, true);
        let masked = Masked { env, secrets };
        let text = name::expanded(&lex, title, &masked);
        let platform = env.0.get_platform().map(platform_of);
        let with_platform = self.options.config.multi_platform;
        name::step(&mut self.stages[id], &text, with_platform, platform.as_ref(), env)
    }

    /// A tree with a here-document as a program.
    fn document_file(&self, id: StageId, name: &str, document: &str) -> buildkit_client_llb::State {
        let file = mkfile(name, 0o755, document.to_owned());
        let mut op = FileActions::new().then(file).custom_name("[internal] preparing inline document");
        if let Some(platform) = &self.stages[id].platform {
            op = op.platform(platform_to(platform));
        }
        scratch().dir("/").file(op)
    }

    /// What the build's options say of all processes, as far as the daemon can do it.
    fn limits(&self, it: &Run, mut process: Process) -> Result<Process> {
        let config = &self.options.config;
        if self.supports(caps::EXEC_META_ULIMIT) {
            for &(limit, soft, hard) in &config.ulimits {
                process = process.ulimit(limit, soft, hard);
            }
        }
        if !it.devices.is_empty() {
            return Err(Error::invalid(
                "device feature is only supported in Dockerfile frontend 1.14.0-labs or later",
            ));
        }
        if self.supports(caps::EXEC_MOUNT_TMPFS_SIZE) && config.shm_size > 0 {
            process = process.mount(SHARED_MEMORY, Mount::tmpfs(config.shm_size));
        }
        if self.supports(caps::EXEC_META_CGROUP_PARENT) && !config.cgroup_parent.is_empty() {
            process = process.cgroup_parent(&config.cgroup_parent);
        }
        if self.supports(caps::EXEC_META_LINUX_RESOURCES)
            && let Some(resources) = &config.linux_resources
        {
            process = process.linux_resources(resources.clone());
        }
        Ok(process)
    }
}

fn invalid_words(words: &[String]) -> Error {
    Error::invalid(format!("parsing produced an invalid run command: {}", crate::format::words(words)))
        .hint("write `RUN command`, or `RUN <<EOF` with the commands below")
}

/// The command as histories have it: before it the arguments that it could use, with their number.
fn command_text(words: &[String], args: &[ArgDefinition], env: &dyn Env) -> String {
    let mut values: Vec<String> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for arg in args {
        let value = env.get(&arg.key).unwrap_or_else(|| arg.value_or_empty());
        let text = format!("{}={value}", arg.key);
        match places.entry(&arg.key) {
            Entry::Occupied(place) => values[*place.get()] = text,
            Entry::Vacant(place) => {
                place.insert(values.len());
                values.push(text);
            }
        }
    }
    let count = (!values.is_empty()).then(|| format!("|{}", values.len()));
    let parts: Vec<String> = count.into_iter().chain(values).chain(words.iter().cloned()).collect();
    parts.join(" ")
}
