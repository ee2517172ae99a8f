//! Files and what the Go implementation takes their instructions for; see the README beside the vectors.

use buildkit_frontend_dockerfile_instructions::{
    CommandLine, Error, Finding, FindingKind, HealthConfig, Instruction, KeyValue, Mount, Origin, Parsed,
    ShareMode, SourcesAndDest, Stage, parse_with,
};
use buildkit_frontend_dockerfile_parser::{Range, parse as read};
use serde_json::{Map, Value, json};

/// What is recorded of a file, as this implementation makes it.
fn record(file: &str) -> Value {
    let ast = match read(file.as_bytes()) {
        Ok(ast) => ast,
        Err(error) => return json!({ "file": file, "refused": error.in_file("Dockerfile") }),
    };
    let mut findings = Vec::new();
    let parsed = parse_with(&ast, &mut |finding| findings.push(finding));
    let mut out = Map::from_iter([("file".to_owned(), json!(file))]);
    if !findings.is_empty() {
        out.insert("findings".to_owned(), findings.iter().map(finding).collect());
    }
    match parsed {
        Ok(Parsed { stages, args }) => {
            if !args.is_empty() {
                let args = args.into_iter().map(|arg| instruction(Instruction::Arg(arg)));
                out.insert("meta_args".to_owned(), args.collect());
            }
            out.insert("stages".to_owned(), stages.into_iter().map(stage).collect());
        }
        Err(error) => {
            out.insert("error".to_owned(), json!(error.to_string()));
            let lines = |ranges: &Vec<Range>| ranges.iter().map(|it| it.start.line).collect::<Value>();
            out.insert("locations".to_owned(), error.locations.iter().map(lines).collect());
        }
    }
    Value::Object(out)
}

fn span(ranges: &[Range]) -> Value {
    json!([ranges.first().map(|it| it.start.line), ranges.last().map(|it| it.end.line)])
}

fn finding(finding: &Finding) -> Value {
    let (rule, text) = match &finding.kind {
        FindingKind::Maintainer => (
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label".to_owned(),
        ),
        FindingKind::StageNameCasing { name } => {
            ("StageNameCasing", format!("Stage name '{name}' should be lowercase"))
        }
        FindingKind::FromAsCasing { from, as_keyword } => {
            ("FromAsCasing", format!("'{as_keyword}' and '{from}' keywords' casing do not match"))
        }
        FindingKind::DefinitionDescription { instruction, key } => (
            "InvalidDefinitionDescription",
            format!("Comment for {instruction} should follow the format: `# {key} <description>`"),
        ),
    };
    json!([rule, text, span(&finding.ranges)])
}

fn stage(stage: Stage) -> Value {
    json!({ "name": stage.name, "from": stage.origin.keyword, "base": stage.base_name,
        "platform": stage.platform, "doc": stage.doc_comment, "code": stage.origin.code,
        "lines": span(&stage.origin.ranges),
        "instructions": stage.instructions.into_iter().map(instruction).collect::<Value>() })
}

fn pairs(pairs: &[KeyValue]) -> Value {
    pairs.iter().map(|pair| json!([pair.key, pair.value, pair.legacy])).collect()
}

fn paths(paths: &SourcesAndDest) -> Value {
    let contents = paths.source_contents.iter().map(|it| json!([it.path, it.data, it.expand]));
    json!({ "dest": paths.dest_path, "sources": paths.source_paths, "contents": contents.collect::<Value>() })
}

fn command(command: &CommandLine) -> Value {
    let files = command.files.iter().map(|it| json!([it.name, it.data, it.chomp]));
    json!({ "words": command.words, "shell": command.prepend_shell, "files": files.collect::<Value>() })
}

fn mounts(mounts: &[Mount]) -> Value {
    let mount = |it: &Mount| {
        json!({ "type": it.kind.as_str(), "from": it.from, "source": it.source, "target": it.target,
            "ro": it.read_only, "size": it.size_limit, "id": it.cache_id,
            "sharing": it.cache_sharing.map_or("", ShareMode::as_str), "required": it.required,
            "env": it.env, "mode": it.mode, "uid": it.uid, "gid": it.gid })
    };
    mounts.iter().map(mount).collect()
}

fn health(health: &HealthConfig) -> Value {
    let times = [health.interval, health.timeout, health.start_period, health.start_interval];
    let [interval, timeout, start_period, start_interval] = times.map(|it| it.as_nanos() as u64);
    json!([health.test, interval, timeout, start_period, start_interval, health.retries])
}

fn instruction(instruction: Instruction) -> Value {
    let Origin { keyword, code, ranges, .. } = instruction.origin().clone();
    let mut expanded = instruction.clone();
    let expansion = expanded.expand::<Error>(&mut |word| Ok(word.to_owned()));
    let (own, shared) = match instruction {
        Instruction::Add(it) => (
            json!({ "chown": it.chown, "chmod": it.chmod, "link": it.link, "exclude": it.exclude_patterns,
                "keep_git_dir": it.keep_git_dir, "checksum": it.checksum, "unpack": it.unpack }),
            paths(&it.paths),
        ),
        Instruction::Copy(it) => (
            json!({ "chown": it.chown, "chmod": it.chmod, "link": it.link, "exclude": it.exclude_patterns,
                "from": it.from, "parents": it.parents }),
            paths(&it.paths),
        ),
        Instruction::Arg(it) => {
            let args = it.args.iter().map(|arg| json!([arg.key, arg.value, arg.doc_comment]));
            (json!({ "args": args.collect::<Value>() }), json!({}))
        }
        Instruction::Cmd(it) => (json!({}), command(&it.command)),
        Instruction::Entrypoint(it) => (json!({}), command(&it.command)),
        Instruction::Env(it) => (json!({ "env": pairs(&it.env) }), json!({})),
        Instruction::Expose(it) => (json!({ "ports": it.ports }), json!({})),
        Instruction::Healthcheck(it) => (json!({ "health": health(&it.health) }), json!({})),
        Instruction::Label(it) => (json!({ "labels": pairs(&it.labels) }), json!({})),
        Instruction::Maintainer(it) => (json!({ "maintainer": it.maintainer }), json!({})),
        Instruction::Onbuild(it) => (json!({ "expression": it.expression }), json!({})),
        Instruction::Run(it) => {
            let expanded = match (expansion, &expanded) {
                (Ok(()), Instruction::Run(expanded)) => mounts(&expanded.mounts),
                (result, _) => json!(result.expect_err("only errors are left").to_string()),
            };
            let devices = it.devices.iter().map(|device| json!([device.name, device.required]));
            let own = json!({ "network": it.network.as_str(), "security": it.security.as_str(),
                "devices": devices.collect::<Value>(), "mounts": mounts(&it.mounts), "expanded": expanded });
            (own, command(&it.command))
        }
        Instruction::Shell(it) => (json!({ "words": it.shell }), json!({})),
        Instruction::StopSignal(it) => (json!({ "signal": it.signal }), json!({})),
        Instruction::User(it) => (json!({ "user": it.user }), json!({})),
        Instruction::Volume(it) => (json!({ "volumes": it.volumes }), json!({})),
        Instruction::Workdir(it) => (json!({ "path": it.path }), json!({})),
    };
    let mut out = json!({ "name": keyword, "code": code, "lines": span(&ranges) });
    for part in [own, shared] {
        let (Some(out), Value::Object(part)) = (out.as_object_mut(), part) else { continue };
        out.extend(part);
    }
    out
}

#[test]
fn instructions_have_the_meaning_recorded() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("vectors/files.json")).expect("the vectors are well formed");
    assert!(vectors.len() > 200, "only {} vectors", vectors.len());
    let mut wrong = Vec::new();
    for expected in &vectors {
        let is = record(expected["file"].as_str().expect("each has its file"));
        if is != *expected {
            wrong.push(format!("made     {is}\nrecorded {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}
