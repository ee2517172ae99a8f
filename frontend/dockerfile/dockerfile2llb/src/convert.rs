use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use buildkit_client_llb::{Constrained as _, Late, MarshalOptions, ProxyEnv};
use buildkit_frontend_dockerfile_instructions::{self as instructions, Parsed};
use buildkit_frontend_dockerfile_linter::{Linter, checks};
use buildkit_frontend_dockerfile_parser as parser;
use buildkit_frontend_dockerfile_shell::{Env as _, Lex};
use buildkit_solver_pb::caps;
use buildkit_util_patternmatcher::PatternMatcher;

use crate::env::EnvList;
use crate::epoch::SOURCE_DATE_EPOCH;
use crate::outline::Capture;
use crate::platform::Platforms;
use crate::stage::{StageId, Stages};
use crate::{ConvertOptions, Error, NamedContext, Result, args, epoch, image, validate};

/// Tells a context which of its paths are used.
pub(crate) type SetUsed = Box<dyn FnOnce(Vec<String>) + Send + Sync>;

/// One conversion.
pub(crate) struct Converter<'a> {
    pub(crate) options: &'a ConvertOptions,
    pub(crate) platforms: Platforms,
    /// What the user gave.
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) global_args: EnvList,
    /// Seconds since 1970.
    pub(crate) epoch: Option<i64>,
    pub(crate) lex: Lex,
    /// Expands here-documents, in which quotes have no meaning.
    pub(crate) document_lex: Lex,
    /// What is known before the first stage.
    pub(crate) outline: Capture,
    pub(crate) linter: Linter,
    pub(crate) stages: Stages,
    pub(crate) proxy: Option<ProxyEnv>,
    /// The build context: which of its files are needed is known when all stages are converted.
    pub(crate) context: Late,
    /// What of the context is hidden.
    pub(crate) ignored: Option<PatternMatcher>,
    /// Named contexts, of which the same holds.
    pub(crate) late_contexts: Vec<(StageId, SetUsed)>,
}

/// The stage that was asked for, with all that it needs.
pub(crate) struct Finished<'a> {
    pub(crate) converter: Converter<'a>,
    pub(crate) target: StageId,
}

/// Converts the stage that is asked for, and all that it needs.
pub(crate) async fn convert<'a>(dockerfile: &[u8], options: &'a ConvertOptions) -> Result<Finished<'a>> {
    if dockerfile.is_empty() {
        return Err(Error::invalid("the Dockerfile cannot be empty").hint("begin with `FROM image`"));
    }
    let linter = options.linter(dockerfile)?;
    let ast = parser::parse(dockerfile)?;
    for warning in &ast.warnings {
        linter.report(checks::no_empty_continuation(), &[warning.range]);
    }
    let Parsed { stages, args: definitions } =
        instructions::parse_with(&ast, &mut |finding| linter.report_finding(&finding))?;
    if stages.is_empty() {
        return Err(Error::invalid("dockerfile contains no stages to build").hint("add `FROM image`"));
    }
    validate::stage_names(&stages, &linter);
    validate::keyword_casing(&stages, &linter);

    let platforms = Platforms::new(options);
    let last = stages.last().map(|stage| stage.name.as_str()).unwrap_or_default();
    let target = if options.config.target.is_empty() { last } else { &options.config.target };
    let mut build_args = options.config.build_args.clone();
    let defaults = platforms.default_args(&build_args, target);
    let lex = Lex::new(ast.escape_token);
    let mut document_lex = Lex::new('\\');
    document_lex.skip_process_quotes = true;
    validate::default_bases(&stages, &lex, &defaults, &definitions, &linter);
    let (mut global_args, all_args) = args::global(defaults, &lex, &definitions, &build_args)?;

    let given = build_args.get(SOURCE_DATE_EPOCH).cloned();
    let given =
        given.or_else(|| global_args.get(SOURCE_DATE_EPOCH).filter(|it| !it.is_empty()).map(str::to_owned));
    let mut date = None;
    if let Some(value) = given {
        date = epoch::resolve(&value, options, &stages, &build_args, &global_args, &lex).await?;
        set_date(&mut build_args, &mut global_args, date);
    }

    let mut converter = Converter {
        options,
        platforms,
        proxy: args::proxies(&build_args),
        build_args,
        global_args,
        epoch: date,
        lex,
        document_lex,
        outline: Capture { all_args, ..Capture::default() },
        linter,
        stages: Stages::default(),
        context: Late::new(),
        ignored: None,
        late_contexts: Vec::new(),
    };
    converter.add_stages(stages)?;
    let target = converter.target()?;
    converter.connect_stages()?;
    let reachable = converter.resolve_stages(target).await?;
    converter.dispatch_stages(&reachable, target).await?;
    converter.finish(target).await?;
    Ok(Finished { converter, target })
}

/// What was a name of something is from now on its date.
fn set_date(given: &mut BTreeMap<String, String>, global: &mut EnvList, date: Option<i64>) {
    let is_given = given.remove(SOURCE_DATE_EPOCH).is_some();
    let is_global = global.get(SOURCE_DATE_EPOCH).is_some();
    match date {
        Some(date) => {
            if is_given {
                given.insert(SOURCE_DATE_EPOCH.to_owned(), date.to_string());
            }
            if is_global {
                global.set(SOURCE_DATE_EPOCH, &date.to_string());
            }
        }
        None => global.remove(SOURCE_DATE_EPOCH),
    }
}

impl Converter<'_> {
    /// Whether the daemon can do something.
    pub(crate) fn supports(&self, cap: &str) -> bool {
        self.options.surroundings.supports(cap)
    }

    /// What the user gave in place of a name.
    pub(crate) fn named_context(
        &self,
        name: &str,
        platform: Option<&buildkit_util_ocispec::Platform>,
    ) -> Result<Option<Arc<dyn NamedContext>>> {
        if ["scratch", "context"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Ok(None);
        }
        let platform = platform.or(self.options.target_platform.as_ref());
        Ok(self.options.surroundings.named_context(name, platform)?)
    }

    async fn dispatch_stages(&mut self, reachable: &BTreeSet<StageId>, target: StageId) -> Result<()> {
        let patterns = self.options.surroundings.ignore_patterns().await?;
        if !patterns.is_empty() {
            self.ignored = Some(PatternMatcher::new(&patterns)?);
        }
        for id in self.stages.ids() {
            let is_needed = reachable.contains(&id) && !self.stages[id].is_dispatched;
            if self.options.all_stages || is_needed {
                self.dispatch_stage(id)?;
            }
        }
        self.stages.mark_used(target, "/".to_owned());
        Ok(())
    }

    /// Completes the image, and decides which files of contexts are needed.
    async fn finish(&mut self, target: StageId) -> Result<()> {
        let labels = self.options.config.labels.clone();
        self.stages[target].image.config.labels.extend(labels);
        self.linter.finish().map_err(|error| {
            Error::invalid(error.to_string())
                .hint("the warnings above say where; `# check=error=false` lets them pass")
        })?;

        let used: BTreeSet<String> =
            self.stages.ids().flat_map(|id| self.stages[id].context_paths.iter().cloned()).collect();
        let context = self.options.surroundings.main_context(&follow_paths(&used)).await?;
        self.context.set(&context);
        for (id, set_used) in std::mem::take(&mut self.late_contexts) {
            set_used(follow_paths(self.stages.used(id)));
        }

        let wanted = self.platforms.target.clone();
        let is_implicit = self.platforms.is_implicit;
        let platform = &mut self.stages[target].image.platform;
        if !is_implicit {
            let is_same = (&wanted.os, &wanted.architecture) == (&platform.os, &platform.architecture);
            platform.os = wanted.os;
            platform.architecture = wanted.architecture;
            if !wanted.variant.is_empty() || !is_same {
                platform.variant = wanted.variant;
            }
            if !wanted.os_version.is_empty() || !is_same {
                platform.os_version = wanted.os_version;
            }
            if !wanted.os_features.is_empty() {
                platform.os_features = wanted.os_features;
            }
        }
        *platform = platform.normalized();
        Ok(())
    }

    /// How the graph has to be written.
    pub(crate) fn marshal_options(&self) -> MarshalOptions {
        let known = caps::list().all();
        let supported = known.into_iter().map(|cap| cap.id).filter(|cap| self.supports(cap));
        MarshalOptions::new().platform(image::wire_platform(&self.platforms.target)).supported_caps(supported)
    }
}

/// Paths below a directory that are to be followed; none if all of it is needed.
pub(crate) fn follow_paths(used: &BTreeSet<String>) -> Vec<String> {
    if used.contains("/") {
        return Vec::new();
    }
    let mut paths: Vec<String> = used.iter().map(|path| buildkit_util_gopath::join([".", path])).collect();
    paths.sort();
    paths
}
