mod cache;
mod definition;
mod fields;
mod metadata;
mod metrics;
mod options;
mod output;
mod policy;
mod registry_tls;
mod secret;
mod ssh;
mod trace;
mod warnings;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use buildkit_client::{Attach, BuildRequest, BuildResponse, Frontend};
use buildkit_session_auth::{AuthService, CredentialProvider};
use buildkit_session_auth_authprovider::{DockerAuth, DockerConfig, HttpTokens};
use buildkit_session_secrets::SecretsService;
use buildkit_session_secrets_secretsprovider::Store;
use buildkit_session_sshforward::SshService;
use buildkit_session_sshforward_sshprovider::Agents;
use buildkit_util_appcontext as tasks;
use buildkit_util_progress::SolveStatus;
use buildkit_util_progress_progressui::{Display, Mode, Settings, Terminal};
use buildkit_util_resolver::{Limits, TokenClient};
use tokio::sync::mpsc;

use crate::cli::{Build, Global};
use crate::connect::connect;

use metrics::Metrics;
use trace::TraceFile;

/// Messages that may wait to be shown.
const QUEUE: usize = 64;

/// Builds. An answer of a frontend is none that fails the program, whatever it says: so it is with the original, and
/// scripts read it.
pub(crate) async fn run(global: &Global, args: &Build) -> Result<()> {
    let start = Instant::now();
    let (cancel, _) = tasks::shutdown_signals().context("failed to watch for signals")?;
    let request = request(args)?;
    let reference = request.reference.clone();
    let (display, trace) = display(args, &reference)?;
    let (is_interactive, is_for_people) = (display.is_interactive(), display.is_for_people());
    let client = connect(global).await?;

    let (to_tee, messages) = mpsc::channel(QUEUE);
    let (to_display, shown) = mpsc::channel(QUEUE);
    let tee = tasks::spawn(tee(messages, to_display, trace));
    let display = tasks::spawn(display.run(shown));
    let result = client.build(request, to_tee, cancel).await;
    // The display ends with the progress; what failed is told after it.
    let (trace, metrics) = tee.await.context("progress was lost")?;
    let warnings = display.await.context("progress was lost")?;
    if let Some(path) = &args.ref_file {
        metadata::replace(path, reference.as_bytes())?;
    }
    if let Ok(warnings) = &warnings
        && is_for_people
    {
        eprint!("{}", warnings::summary(warnings, global.debug));
    }
    if let Some(trace) = trace.filter(|_| is_interactive) {
        eprintln!("Timing and logs of each step: {}", trace.path().display());
    }
    let response = result?;
    warnings?;
    if let Some(path) = &args.metadata_file {
        metadata::write(path, &response.exporter)?;
    }
    print_result(&response)?;
    if let Some(target) = &args.debug_json_cache_metrics {
        write_metrics(target, &metrics.text(start.elapsed()))?;
    }
    Ok(())
}

/// What the flags ask for.
fn request(args: &Build) -> Result<BuildRequest> {
    let variable = |name: &str| std::env::var(name).ok();
    let tls = registry_tls::parse(&args.registry_auth_tlscontext)?;
    let user_agent = format!("buildctl/{}", buildkit_version::VERSION);
    let tokens = HttpTokens::new(TokenClient::new(user_agent, tls, Limits::default()));
    let auth: Arc<dyn CredentialProvider> =
        Arc::new(DockerAuth::new(DockerConfig::load(variable), Some(Arc::new(tokens)), variable));
    let mut attach: Vec<Attach> = vec![Box::new(|session| {
        session.allow(AuthService::server(auth), AuthService::METHODS);
    })];
    if !args.ssh.is_empty() {
        let agents = ssh::parse(&args.ssh)?;
        let agents = Arc::new(Agents::new(agents, variable)?);
        attach.push(Box::new(|session| {
            session.allow(SshService::server(agents), SshService::METHODS);
        }));
    }
    if !args.secret.is_empty() {
        let store = Arc::new(Store::new(secret::parse(&args.secret)?)?);
        attach.push(Box::new(|session| {
            session.allow(SecretsService::server(store), SecretsService::METHODS);
        }));
    }
    options::check_entitlements(&args.allow)?;
    let mut frontend = Frontend {
        name: args.frontend.clone(),
        options: options::parse(&args.opt, variable).context("invalid opt")?,
    };
    let exports = output::parse(&args.output)?;
    let cache_exports = cache::exports(&args.export_cache)?;
    let cache_imports = cache::imports(&args.import_cache)?;
    let source_policy = args.source_policy_file.as_deref().map(policy::read).transpose()?;
    let mut local = options::local(&args.local).context("invalid local")?;
    let oci_stores = options::layouts(&args.oci_layout).context("invalid oci-layout")?;
    let definition = definition::settle(&mut frontend, &mut local, args.no_cache)?;
    Ok(BuildRequest {
        reference: buildkit_identity::new_id(),
        definition,
        frontend,
        exports,
        cache_exports,
        cache_imports,
        local,
        oci_stores,
        entitlements: args.allow.clone(),
        source_policy,
        proxy_network: args.proxy_network,
        attach,
        ..BuildRequest::default()
    })
}

/// How progress is shown, and the file that keeps it: the one asked for, or on a terminal a
/// temporary one.
fn display(args: &Build, reference: &str) -> Result<(Display<std::io::Stderr>, Option<TraceFile>)> {
    let (settings, problems) = Settings::from_env();
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let mut mode: Mode = args.progress.parse()?;
    if mode == Mode::Auto
        && let Some(text) = std::env::var("BUILDKIT_PROGRESS").ok().filter(|text| !text.is_empty())
    {
        mode = text.parse()?;
    }
    let stderr = std::io::stderr();
    let terminal = Terminal::of(&stderr);
    let display = Display::new(stderr, terminal, mode, "Building", settings)?;
    let trace = match &args.trace {
        Some(path) => Some(TraceFile::open(path)?),
        None if display.is_interactive() => {
            TraceFile::temporary(reference).inspect_err(|error| tracing::debug!(%error, "no trace file")).ok()
        }
        None => None,
    };
    Ok((display, trace))
}

/// Writes progress into the trace file and counts it on its way to the display.
async fn tee(
    mut messages: mpsc::Receiver<SolveStatus>,
    display: mpsc::Sender<SolveStatus>,
    mut trace: Option<TraceFile>,
) -> (Option<TraceFile>, Metrics) {
    let mut metrics = Metrics::default();
    while let Some(message) = messages.recv().await {
        metrics.add(&message);
        if let Some(file) = &mut trace
            && let Err(error) = file.write(&message)
        {
            tracing::warn!("{error:#}");
            trace = None;
        }
        // A display that cannot write any more does not stop the build.
        let _ = display.send(message).await;
    }
    (trace, metrics)
}

/// Prints what a frontend answered instead of making a tree.
fn print_result(response: &BuildResponse) -> Result<()> {
    let mut out = Vec::new();
    match response.metadata.get("result.txt") {
        Some(text) => out.extend_from_slice(text),
        None => {
            for (key, value) in response.metadata.iter().filter(|(key, _)| key.starts_with("result.")) {
                out.extend_from_slice(key.as_bytes());
                out.push(b'\n');
                out.extend_from_slice(value);
                out.push(b'\n');
            }
        }
    }
    std::io::stdout().write_all(&out).context("failed to write to standard output")
}

fn write_metrics(target: &str, text: &str) -> Result<()> {
    match target {
        "stdout" => print!("{text}"),
        "stderr" => eprint!("{text}"),
        path => fs_err::write(path, text)?,
    }
    Ok(())
}
