//! Logs of the daemon, to standard error.

use anyhow::bail;
use buildkit_cmd_buildkitd_config::Config;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts logging as the configuration says; an empty level is `info`.
pub(crate) fn start(config: &Config) -> anyhow::Result<()> {
    let level = match config.log.level.as_str() {
        "" if config.trace => "trace",
        "" if config.debug => "debug",
        "" | "info" => match (config.trace, config.debug) {
            (true, _) => "trace",
            (_, true) => "debug",
            _ => "info",
        },
        "trace" => "trace",
        "debug" => "debug",
        "warn" | "warning" => "warn",
        "error" | "fatal" | "panic" => "error",
        other => bail!("unsupported log level: not a valid level: \"{other}\""),
    };
    // Libraries below are only of interest when they warn.
    let filter = EnvFilter::new(format!(
        "{level},h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,sled=warn,rustls=warn"
    ));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format.as_str() {
        "" | "text" => {
            use std::io::IsTerminal as _;
            builder.with_ansi(std::io::stderr().is_terminal()).init();
        }
        "json" => builder.json().init(),
        other => bail!("unsupported log type \"{other}\""),
    }
    Ok(())
}
