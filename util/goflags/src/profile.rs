use clap::Args;

/// The hidden flags by which Go programs write profiles of their runtime. There is no such runtime here, so
/// they are taken and do nothing.
#[derive(Args, Clone, Debug, Default)]
pub struct ProfileFlags {
    /// Profile of the processor
    #[arg(long, hide = true, global = true)]
    profile_cpu: Option<String>,
    /// Profile of memory
    #[arg(long, hide = true, global = true)]
    profile_memory: Option<String>,
    /// Bytes between two samples of memory
    #[arg(long, hide = true, global = true)]
    profile_memoryrate: Option<i64>,
    /// Profile of blocking
    #[arg(long, hide = true, global = true)]
    profile_block: Option<String>,
    /// Profile of locks
    #[arg(long, hide = true, global = true)]
    profile_mutex: Option<String>,
    /// Trace of the runtime
    #[arg(long, hide = true, global = true)]
    profile_trace: Option<String>,
}

impl ProfileFlags {
    /// What to tell the user when any of the flags was given.
    pub fn warning(&self) -> Option<&'static str> {
        let files = [
            &self.profile_cpu,
            &self.profile_memory,
            &self.profile_block,
            &self.profile_mutex,
            &self.profile_trace,
        ];
        let is_given = self.profile_memoryrate.is_some() || files.iter().any(|file| file.is_some());
        is_given.then_some("The --profile-* flags are about the runtime of Go and have no effect")
    }
}
