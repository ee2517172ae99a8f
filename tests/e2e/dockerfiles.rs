//! Builds of Dockerfiles.

use std::path::{Path, PathBuf};

use buildkit_util_testutil::Run;
use serde_json::Value;

use crate::layout::Layout;
use crate::sandbox::{Sandbox, to_directory};

/// A context with a Dockerfile. `busybox` is the root file system of the sandbox.
pub struct Context {
    dir: PathBuf,
}

impl Context {
    pub fn new(sandbox: &Sandbox, name: &str, dockerfile: &str) -> Self {
        let dir = sandbox.path(name);
        fs_err::create_dir_all(&dir).expect("a context");
        fs_err::write(dir.join("Dockerfile"), dockerfile).expect("a Dockerfile");
        Self { dir }
    }

    /// Adds a file.
    pub fn file(self, name: &str, content: &str) -> Self {
        let path = self.dir.join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs_err::write(path, content).expect("a file");
        self
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// `buildctl build` of it.
    pub fn build(&self, sandbox: &Sandbox) -> Run {
        self.build_with_progress(sandbox, "plain")
    }

    /// As [`Self::build`], with nothing printed but errors.
    pub fn build_quietly(&self, sandbox: &Sandbox) -> Run {
        self.build_with_progress(sandbox, "quiet")
    }

    fn build_with_progress(&self, sandbox: &Sandbox, progress: &str) -> Run {
        let local = |name: &str, path: &Path| ["--local".to_owned(), format!("{name}={}", path.display())];
        sandbox
            .daemon
            .buildctl(["build", "--progress", progress, "--frontend", "dockerfile.v0"])
            .args(local("context", &self.dir))
            .args(local("dockerfile", &self.dir))
            .args(local("busybox", &sandbox.path("rootfs")))
            .args(["--opt", "context:busybox=local:busybox"])
    }

    /// Builds with success and gives the exported directory.
    pub fn export(&self, sandbox: &Sandbox, args: &[&str]) -> PathBuf {
        let out = sandbox.path("exported");
        let _ = fs_err::remove_dir_all(&out);
        self.build(sandbox).args(args).args(to_directory(&out)).run().assert_ok();
        out
    }
}

fn text(out: &Path, name: &str) -> String {
    fs_err::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn stages_share_their_files_and_their_cache() {
    let sandbox = Sandbox::new();
    let dockerfile = "\
        FROM scratch AS root\n\
        COPY --from=busybox / /\n\
        FROM root AS build\n\
        ENV PATH=/bin GREETING=hello\n\
        WORKDIR /src/deep\n\
        COPY *.txt sub/ ./\n\
        ARG WHO=nobody\n\
        RUN echo \"$GREETING $WHO\" > said && ls > listed && pwd >> said\n\
        FROM build AS owned\n\
        COPY --chown=12:34 --chmod=640 a.txt /owned/\n\
        RUN stat -c '%a %u %g' /owned/a.txt > /owner\n\
        FROM build AS unused\n\
        RUN exit 1\n\
        FROM scratch\n\
        COPY --from=build /src/deep/said /src/deep/listed /\n\
        COPY --from=owned /owner /\n\
        COPY --link b.txt /linked/b\n";
    let context = Context::new(&sandbox, "context", dockerfile)
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("sub/c", "c")
        .file("not-used", "x");
    let out = context.export(&sandbox, &["--opt", "build-arg:WHO=world"]);
    assert_eq!(text(&out, "said"), "hello world\n/src/deep\n");
    assert_eq!(text(&out, "listed"), "a.txt\nb.txt\nc\nlisted\nsaid\n");
    assert_eq!(text(&out, "linked/b"), "b");
    assert_eq!(text(&out, "owner"), "640 12 34\n");

    fs_err::write(context.path().join("not-used"), "changed").unwrap();
    let again = context.build(&sandbox).args(["--opt", "build-arg:WHO=world"]).run().assert_ok().text();
    let steps = again.lines().filter(|line| line.ends_with(" CACHED")).count();
    assert_eq!(steps, 9, "what was changed is not used: {again}");
}

#[test]
fn steps_have_documents_caches_secrets_and_memory() {
    let sandbox = Sandbox::new();
    fs_err::write(sandbox.path("secret"), "5ecret\n").unwrap();
    let dockerfile = "\
        FROM busybox AS steps\n\
        ENV PATH=/bin\n\
        RUN <<EOF\n\
        echo one > /log\n\
        echo $((1 + 1)) >> /log\n\
        EOF\n\
        RUN <<EOF\n\
        #!/bin/busybox sh\n\
        echo shebang >> /log\n\
        EOF\n\
        ARG ROUND\n\
        RUN --mount=type=cache,target=/cache --mount=type=cache,target=/own,mode=0770,uid=5 echo x >> /cache/n && cat /cache/n > /n && stat -c '%a %u' /own >> /log\n\
        RUN --mount=type=secret,id=s,mode=0400 --mount=type=secret,id=s,env=S cat /run/secrets/s >> /log && echo $S >> /log\n\
        RUN --mount=type=tmpfs,target=/mem,size=1m touch /mem/f && grep -c ' /mem tmpfs' /proc/mounts >> /log\n\
        RUN --mount=target=/ctx,rw cat /ctx/given >> /log && rm /ctx/given\n\
        RUN --network=none test ! -e /mem/f && ls /ctx /mem >> /log 2>&1 || echo gone >> /log\n\
        FROM scratch\n\
        COPY --from=steps /log /n /\n\
        COPY <<\"RAW\" <<EXPANDED /documents/\n\
        $HOME stays\n\
        RAW\n\
        ${NOTHING:-expanded}\n\
        EXPANDED\n";
    let context = Context::new(&sandbox, "context", dockerfile).file("given", "given\n");
    let secret = format!("id=s,src={}", sandbox.path("secret").display());
    for builds in 1..=2 {
        // Another argument is another step; `--no-cache` would empty the cache, too.
        let round = format!("build-arg:ROUND={builds}");
        let out = context.export(&sandbox, &["--secret", &secret, "--opt", &round]);
        let log = text(&out, "log");
        let want = "one\n2\nshebang\n770 5\n5ecret\n5ecret\n1\ngiven\n";
        assert!(log.starts_with(want), "{log}");
        assert_eq!(text(&out, "n").lines().count(), builds, "the cache is kept");
        assert_eq!(text(&out, "documents/RAW"), "$HOME stays\n");
        assert_eq!(text(&out, "documents/EXPANDED"), "expanded\n");
    }
    assert_eq!(text(context.path(), "given"), "given\n", "what is mounted is not the client's own");
}

#[test]
fn images_have_what_instructions_say() {
    let sandbox = Sandbox::new();
    let dockerfile = "\
        FROM scratch\n\
        ARG V=1\n\
        ENV A=$V\n\
        LABEL b=c\n\
        WORKDIR /w\n\
        COPY f .\n\
        USER 5:6\n\
        EXPOSE 80 90-91/udp\n\
        VOLUME /data\n\
        STOPSIGNAL SIGINT\n\
        HEALTHCHECK --interval=5s CMD test\n\
        ENTRYPOINT [\"/w/f\"]\n\
        CMD [\"x\"]\n\
        ONBUILD RUN later\n";
    let context = Context::new(&sandbox, "context", dockerfile).file("f", "f");
    let layout = sandbox.path("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let options =
        ["--output", &output, "--opt", "label:given=yes", "--opt", "build-arg:SOURCE_DATE_EPOCH=1700000000"];
    context.build(&sandbox).args(options).run().assert_ok();
    let config = Layout::open(&layout).config();
    let run = &config["config"];
    for (key, want) in [
        (
            "Env",
            serde_json::json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"]),
        ),
        ("Labels", serde_json::json!({"b": "c", "given": "yes"})),
        ("WorkingDir", "/w".into()),
        ("User", "5:6".into()),
        ("ExposedPorts", serde_json::json!({"80/tcp": {}, "90/udp": {}, "91/udp": {}})),
        ("Volumes", serde_json::json!({"/data": {}})),
        ("StopSignal", "SIGINT".into()),
        ("Entrypoint", serde_json::json!(["/w/f"])),
        ("Cmd", serde_json::json!(["x"])),
        ("OnBuild", serde_json::json!(["RUN later"])),
    ] {
        assert_eq!(run[key], want, "{key}");
    }
    assert_eq!(run["Healthcheck"]["Interval"], 5_000_000_000_i64);
    let history = config["history"].as_array().expect("a history");
    let created_by = |entry: &Value| entry["created_by"].as_str().unwrap_or_default().to_owned();
    let layers: Vec<String> =
        history.iter().filter(|entry| entry["empty_layer"] != true).map(created_by).collect();
    assert_eq!(layers, ["WORKDIR /w", "COPY f . # buildkit"]);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(2));
    assert!(history.iter().all(|entry| entry["created"] == "2023-11-14T22:13:20Z"), "{history:?}");
}

#[test]
fn one_image_is_for_several_platforms() {
    let sandbox = Sandbox::new();
    let dockerfile = "\
        FROM --platform=$BUILDPLATFORM busybox AS build\n\
        ARG TARGETPLATFORM TARGETARCH\n\
        RUN [\"/bin/sh\", \"-c\", \"echo $TARGETPLATFORM $TARGETARCH > /of\"]\n\
        FROM scratch\n\
        COPY --from=build /of /\n";
    let context = Context::new(&sandbox, "context", dockerfile);
    let out = context.export(&sandbox, &["--opt", "platform=linux/amd64,linux/arm64,linux/arm/v7"]);
    assert_eq!(text(&out, "linux_amd64/of"), "linux/amd64 amd64\n");
    assert_eq!(text(&out, "linux_arm64/of"), "linux/arm64 arm64\n");
    assert_eq!(text(&out, "linux_arm_v7/of"), "linux/arm/v7 arm\n");
}

#[test]
fn ignored_files_stay_away() {
    let sandbox = Sandbox::new();
    let context = Context::new(&sandbox, "context", "FROM scratch\nCOPY . /\n")
        .file(".dockerignore", "*.log\n!keep.log\nDockerfile\n.dockerignore\n")
        .file("a.log", "")
        .file("keep.log", "")
        .file("d/b.log", "");
    let out = context.export(&sandbox, &[]);
    let names = |dir: &str| {
        let entries = fs_err::read_dir(out.join(dir)).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("."), ["d", "keep.log"]);
    assert_eq!(names("d"), ["b.log"]);
}

#[test]
fn triggers_run_in_the_stage_that_is_built_upon_them() {
    let sandbox = Sandbox::new();
    let dockerfile = "\
        FROM busybox AS parent\n\
        ENV PATH=/bin\n\
        ONBUILD COPY app /app\n\
        ONBUILD RUN echo trigger >> /app\n\
        FROM parent AS child\n\
        RUN echo own >> /app\n\
        FROM scratch\n\
        COPY --from=child /app /\n";
    let context = Context::new(&sandbox, "context", dockerfile).file("app", "app\n");
    assert_eq!(text(&context.export(&sandbox, &[]), "app"), "app\ntrigger\nown\n");
}
