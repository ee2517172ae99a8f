use std::collections::BTreeSet;
use std::sync::Arc;

use buildkit_client_llb::{Constrained as _, Late, MarshalOptions, ProxyEnv};
use buildkit_client_llb_sourceresolver::platform_to;
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
use crate::{ConvertOptions, Error, NamedContext, Result, args, epoch, validate};

/// Tells a context which of its paths are used.
pub(crate) type SetUsed = Box<dyn FnOnce(Vec<String>) + Send + Sync>;

/// One conversion.
pub(crate) struct Converter<'a> {
    pub(crate) options: &'a ConvertOptions,
    pub(crate) platforms: Platforms,
    pub(crate) global_args: EnvList,
    /// Seconds since 1970; what the user gave may be the name of something with a date.
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
    // Its lines, as they are parsed, and as steps are named after them.
    options.budget.take(8 * dockerfile.len())?;
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
    let given = &options.config.build_args;
    let defaults = platforms.default_args(given, target);
    let lex = Lex::new(ast.escape_token);
    let mut document_lex = Lex::new('\\');
    document_lex.skip_process_quotes = true;
    validate::default_bases(&stages, &lex, &defaults, &definitions, &linter);
    let (mut global_args, arg_infos) = args::global(defaults, &lex, &definitions, given)?;

    let value = given.get(SOURCE_DATE_EPOCH).cloned();
    let value =
        value.or_else(|| global_args.get(SOURCE_DATE_EPOCH).filter(|it| !it.is_empty()).map(str::to_owned));
    let mut date = None;
    if let Some(value) = value {
        date = epoch::resolve(&value, options, &stages, given, &global_args, &lex).await?;
        // What was a name of something is from now on its date.
        match date {
            Some(date) if global_args.get(SOURCE_DATE_EPOCH).is_some() => {
                global_args.set(SOURCE_DATE_EPOCH, &date.to_string());
            }
            Some(_) => {}
            None => global_args.remove(SOURCE_DATE_EPOCH),
        }
    }

    let mut converter = Converter {
        options,
        platforms,
        proxy: args::proxies(given),
        global_args,
        epoch: date,
        lex,
        document_lex,
        outline: Capture { global_args: Arc::new(arg_infos), ..Capture::default() },
        linter,
        stages: Stages::default(),
        context: Late::new(),
        ignored: None,
        late_contexts: Vec::new(),
    };
    converter.add_stages(stages).await?;
    let target = converter.target()?;
    converter.connect_stages()?;
    let reachable = converter.resolve_stages(target).await?;
    converter.dispatch_stages(&reachable, target).await?;
    converter.finish(target).await?;
    Ok(Finished { converter, target })
}

impl Converter<'_> {
    /// Whether the daemon can do something.
    pub(crate) fn supports(&self, cap: &str) -> bool {
        self.options.surroundings.supports(cap)
    }

    /// What the user gave for an argument.
    pub(crate) fn given_arg(&self, name: &str) -> Option<String> {
        let given = self.options.config.build_args.get(name)?;
        if name == SOURCE_DATE_EPOCH { self.epoch.map(|date| date.to_string()) } else { Some(given.clone()) }
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
                self.dispatch_stage(id).await?;
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
        MarshalOptions::new().platform(platform_to(&self.platforms.target)).supported_caps(supported)
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
