//! The same calls as those that recorded `llb.json` with the original builder give the same bytes.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use buildkit_client_llb::*;
use buildkit_util_cachedigest::Digest;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    call: String,
    #[serde(default)]
    definition: String,
    #[serde(default)]
    error: String,
}

const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// What one call of the recorder is here.
struct Case {
    state: State,
    options: MarshalOptions,
}

impl From<State> for Case {
    fn from(state: State) -> Self {
        let platform = Platform::new("linux", "amd64");
        let options = MarshalOptions::new().platform(platform).local_unique_id("unique");
        Self { state, options }
    }
}

fn alpine() -> State {
    image("alpine:3.19").state()
}

fn busybox() -> State {
    image("busybox").state()
}

fn x() -> Run {
    alpine().run().args(["x"])
}

fn on_x(state: &State) -> State {
    state.run().args(["x"]).root()
}

fn mount(target: &str, mount: Mount) -> State {
    x().mount(target, mount).root()
}

fn file(actions: impl Into<FileActions>) -> State {
    alpine().dir("/w").file(actions)
}

fn digest() -> Digest {
    Digest::parse(DIGEST).expect("a digest")
}

fn linux(architecture: &str) -> Platform {
    Platform::new("linux", architecture)
}

fn none() -> Constraints {
    Constraints::new()
}

fn sources() -> Vec<(&'static str, State)> {
    vec![
        ("scratch", scratch()),
        ("image short", busybox()),
        ("image tag", alpine()),
        ("image digest", image(&format!("foo.io/a/b@{DIGEST}")).state()),
        ("image invalid", image("UPPER case").state()),
        ("image pull", image("a").resolve_mode(ResolveMode::ForcePull).state()),
        ("image prefer local", image("a").resolve_mode(ResolveMode::PreferLocal).state()),
        ("image default mode", image("a").resolve_mode(ResolveMode::Default).state()),
        ("image internal", image("a").internal().state()),
        ("image layer limit", image("a").layer_limit(2).state()),
        ("image layer limit 0", image("a").layer_limit(0).state()),
        ("image checksum", image("a").checksum(digest()).state()),
        ("image platform", image("a").platform(Platform { variant: "v7".into(), ..linux("arm") }).state()),
        ("image custom name", image("a").custom_name("n").state()),
        (
            "image config",
            alpine()
                .with_image_config(
                    br#"{"architecture":"arm64","os":"linux",
                        "config":{"Env":["A=b=c","D","E="],"WorkingDir":"/w","User":"u"}}"#,
                )
                .expect("a configuration")
                .run()
                .args(["x"])
                .root(),
        ),
        (
            "image blob",
            image_blob(&format!("docker.io/library/a@{DIGEST}"))
                .filename("f")
                .mode(0o755)
                .owner(1, 2)
                .state(),
        ),
        ("image blob tagged", image_blob("a:1").state()),
        ("image blob no digest", image_blob("a").state()),
        ("oci layout blob", oci_layout_blob(&format!("x/y@{DIGEST}")).store("sess", "store").state()),
        ("local", local("ctx").state()),
        ("local unique own", local("ctx").local_unique_id("u2").state()),
        (
            "local all",
            local("ctx")
                .session_id("s")
                .include(["a", "<b>"])
                .follow(["c/*"])
                .exclude(["d", "!e"])
                .shared_key_hint("h")
                .differ(Differ::Metadata, true)
                .metadata_only(["x"])
                .custom_name("n")
                .state(),
        ),
        (
            "local empty lists",
            local("ctx").include([""; 0]).metadata_only([""; 0]).differ(Differ::None, false).state(),
        ),
        ("git https", git("https://github.com/moby/buildkit.git", "").state()),
        ("git no scheme", git("github.com/moby/buildkit", "v1:sub/dir").state()),
        ("git fragment in url", git("https://github.com/moby/buildkit.git#main:x", "v2:/y/../z").state()),
        ("git user", git("https://user:pw@host:8443/a/b.git", "r").state()),
        (
            "git ssh",
            git("git@github.com:moby/buildkit.git", "main")
                .known_ssh_hosts("k1\n")
                .known_ssh_hosts("k2")
                .state(),
        ),
        (
            "git ssh url",
            git("ssh://git@host:2222/p/q.git", "main").known_ssh_hosts("k").ssh_socket("id").state(),
        ),
        (
            "git all",
            git("https://h/r.git", "")
                .reference("v1")
                .subdir("s")
                .skip_submodules()
                .mtime("commit")
                .keep_git_dir()
                .auth_token_secret("t")
                .auth_header_secret("h")
                .checksum("c0ffee")
                .fetch_by_commit()
                .bundle("oci-layout+blob://x", "s", "st")
                .checkout_bundle()
                .state(),
        ),
        ("http", http("https://example.com/f").state()),
        (
            "http all",
            http("http://example.com/f?x=1")
                .checksum(digest())
                .filename("n")
                .mode(0o600)
                .owner(5, 6)
                .auth_header_secret("s")
                .header("a/b", "ua")
                .pgp_signature("pk", "sig")
                .state(),
        ),
        ("http setuid perm", http("http://e/f").mode(0o4755).state()),
        ("oci layout", oci_layout(&format!("x@{DIGEST}")).state()),
        (
            "oci layout all",
            oci_layout(&format!("x/y:tag@{DIGEST}")).store("sess", "store").layer_limit(1).state(),
        ),
    ]
}

fn execs() -> Vec<(&'static str, State)> {
    let ip = |text: &str| text.parse().expect("an address");
    vec![
        ("run args", x().root()),
        ("run shlex", alpine().run().shlex("sh -c 'a b' \"c d\"\\ e ").root()),
        ("run no args", alpine().run().root()),
        ("run twice", alpine().run().shlex("a").root().run().shlex("b").root()),
        ("run scratch", on_x(&scratch())),
        (
            "run env",
            alpine().env("B", "1").env("A", "2").env("B", "3").run().args(["x"]).env("C", "%s").root(),
        ),
        ("run envf", on_x(&alpine().env("A", "1-x"))),
        ("run dir abs", x().dir("/a/../b/").root()),
        ("run dir rel", alpine().dir("/a").dir("b/../c").run().args(["x"]).dir("d").root()),
        ("run user", x().user("u:g").root()),
        ("run hostname", x().with(|s| s.hostname("h")).root()),
        ("run reset", on_x(&alpine().env("A", "1").dir("/x").reset(&scratch().env("B", "2")))),
        ("run with", x().with(|s| s.env("A", "1").user("u")).root()),
        (
            "run hosts",
            x().extra_host("a", ip("1.2.3.4"))
                .extra_host("b", ip("::1"))
                .extra_host("a", ip("4.3.2.1"))
                .root(),
        ),
        ("run ulimit", x().ulimit(Ulimit::Nofile, 1, 2).ulimit(Ulimit::Core, -1, -1).root()),
        ("run cdi", x().device(Device::new("v/c=1")).device(Device::new("v/c=2").optional()).root()),
        ("run exit codes", x().valid_exit_codes([0, 3, -1]).root()),
        ("run no exit codes", x().root()),
        ("run cgroup", x().cgroup_parent("cg").root()),
        ("run network host", on_x(&alpine().network(Network::Host))),
        ("run network none", x().network(Network::None).root()),
        ("run network sandbox", x().network(Network::Sandbox).root()),
        ("run security insecure", x().security(Security::Insecure).root()),
        ("run readonly root", x().readonly_root().root()),
        (
            "run proxy",
            x().proxy(ProxyEnv {
                http: "a".into(),
                https: "b".into(),
                ftp: "c".into(),
                no: "d".into(),
                all: "e".into(),
            })
            .root(),
        ),
        (
            "run platform",
            image("alpine:3.19")
                .platform(linux("arm64"))
                .state()
                .run()
                .args(["x"])
                .platform(linux("s390x"))
                .root(),
        ),
        ("run platform inherited", on_x(&image("alpine:3.19").platform(linux("arm64")).state())),
        ("run state platform", on_x(&alpine().with_platform(linux("riscv64")))),
        (
            "run platform all fields",
            x().platform(Platform {
                os_version: "10.0.1".into(),
                os_features: vec!["win32k".into()],
                ..Platform::new("windows", "amd64")
            })
            .root(),
        ),
        (
            "run resources",
            x().linux_resources(LinuxResources {
                memory: 1,
                memory_swap: 2,
                cpu_shares: 3,
                cpu_period: 4,
                cpu_quota: 5,
                cpuset_cpus: "0".into(),
                cpuset_mems: "1".into(),
            })
            .root(),
        ),
        (
            "run resources single",
            x().linux_resources(LinuxResources {
                memory: 7,
                cpuset_cpus: "1-2".into(),
                ..LinuxResources::default()
            })
            .root(),
        ),
        (
            "run metadata",
            x().ignore_cache()
                .description("a", "1")
                .custom_name("<n>")
                .export_cache(true)
                .progress_group("id", "name", true)
                .root(),
        ),
        ("run without export cache", x().export_cache(false).root()),
        ("run default export cache", x().root()),
        (
            "state extras",
            on_x(
                &busybox()
                    .extra_host("h", ip("1.1.1.1"))
                    .ulimit(Ulimit::Cpu, 1, 2)
                    .cgroup_parent("c")
                    .security(Security::Insecure)
                    .user("u")
                    .hostname("n"),
            ),
        ),
        ("async", on_x(&busybox().env("A", "1"))),
    ]
}

fn mounts() -> Vec<(&'static str, State)> {
    let bind = || Mount::bind(&busybox());
    let out = x().mount("/out", Mount::scratch()).done().mount("/out").expect("an output");
    let cache = |id, sharing| Mount::cache(id, sharing);
    vec![
        ("mount bind", mount("/m", bind())),
        ("mount options", mount("/m", bind().readonly().selector("/sub"))),
        ("mount no output", mount("/m", bind().no_output())),
        (
            "mount content cache",
            x().mount("/m", bind().readonly().content_cache(ContentCache::On))
                .mount("/n", bind().readonly().content_cache(ContentCache::Off))
                .root(),
        ),
        (
            "mount order",
            x().mount("/z", Mount::scratch())
                .mount("/a", bind())
                .mount("/B", Mount::bind(&local("l").state()))
                .root(),
        ),
        ("mount same input", mount("/m", Mount::bind(&alpine()).readonly())),
        ("mount output state", out.clone()),
        ("get mount", out.run().args(["y"]).root()),
        (
            "mount caches",
            x().mount("/a", cache("i", CacheSharing::Shared))
                .mount("/b", cache("j", CacheSharing::Private))
                .mount("/c", cache("k", CacheSharing::Locked).from(&busybox()).selector("s"))
                .root(),
        ),
        ("mount tmpfs", x().mount("/t", Mount::tmpfs(0)).mount("/u", Mount::tmpfs(1 << 20)).root()),
        ("mount tmpfs source", mount("/t", Mount::tmpfs(0).from(&busybox()))),
        (
            "secrets",
            x().secret(Secret::file("/s1", "/s1"))
                .secret(Secret::file("i", "/s1b").optional().owner(1, 2, 0o444))
                .secret(Secret::file("src", "/s2"))
                .root(),
        ),
        (
            "secret env",
            x().secret(Secret::env("i", "NAME"))
                .secret(Secret::env("s", "E"))
                .secret(Secret::file("/both", "/both").and_env("F").optional())
                .root(),
        ),
        ("ssh", x().ssh(Ssh::new("")).root()),
        (
            "ssh options",
            x().ssh(Ssh::new("i").target("/a"))
                .ssh(Ssh::new("").target("/b").owner(1, 2, 0o666).optional())
                .ssh(Ssh::new(""))
                .root(),
        ),
        ("ssh env set", alpine().env("SSH_AUTH_SOCK", "/x").run().args(["x"]).ssh(Ssh::new("")).root()),
    ]
}

fn files() -> Vec<(&'static str, State)> {
    let t = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
    let actions = FileActions::new;
    vec![
        ("mkdir", file(mkdir("d", 0o755))),
        ("mkdir all", file(mkdir("/d/e/", 0o1777).parents().owner("u:g").created(t))),
        ("mkfile", file(mkfile("f", 0o644, "hi"))),
        ("mkfile nil", file(mkfile("/f", 0, ""))),
        ("mkfile all", file(mkfile("../f", 0o600, "hi").owner(Owner::ids(1, 2)).created(t))),
        (
            "mkfile user forms",
            file(
                actions()
                    .then(mkfile("/a", 0, "").owner("0"))
                    .then(mkfile("/b", 0, "").owner("5:g"))
                    .then(mkfile("/c", 0, "").owner("u"))
                    .then(mkfile("/d", 0, "").owner(":7")),
            ),
        ),
        (
            "symlink",
            file(actions().then(symlink("t", "l")).then(symlink("../t", "/a/../l").owner("1:2").created(t))),
        ),
        ("rm", file(actions().then(rm("x")).then(rm("/y*").allow_not_found().allow_wildcard()))),
        ("copy", file(copy(busybox(), "src", "dst"))),
        ("copy dir state", file(copy(busybox().dir("/sd"), "src/", "dst/"))),
        (
            "copy paths",
            file(
                actions().then(copy(busybox(), "/a/../b/.", ".")).then(copy(busybox(), ".", "/")).then(copy(
                    busybox(),
                    "",
                    "",
                )),
            ),
        ),
        (
            "copy all",
            file(
                copy(busybox(), "/s*", "/d")
                    .mode(0o751)
                    .follow_symlinks()
                    .contents_only()
                    .include(["*.go"])
                    .exclude(["x"])
                    .required(["r"])
                    .unpack()
                    .create_dest()
                    .allow_wildcard()
                    .allow_empty_wildcard()
                    .owner("1:u")
                    .created(t)
                    .replace_existing(),
            ),
        ),
        (
            "copy mode string",
            file(copy(busybox(), "/s", "/d").mode_text("u+x,go=r").exclude(["a"]).exclude(["b"])),
        ),
        ("copy mode zero", file(copy(busybox(), "/s", "/d").mode(0))),
        ("copy from scratch base", scratch().file(copy(busybox(), "/s", "/d"))),
        ("copy from scratch source", file(copy(scratch(), "/s", "/d"))),
        ("copy same input", file(copy(alpine(), "/s", "/d"))),
        (
            "copy two sources",
            file(
                actions()
                    .then(copy(busybox(), "/s", "/d"))
                    .then(copy(local("l").state(), "/s", "/d"))
                    .then(copy(busybox(), "/t", "/e")),
            ),
        ),
        (
            "copy from action",
            scratch().file(actions().then(mkdir("/o", 0o755)).then(copy(
                FileActions::from(mkfile("/f", 0o644, "x")).on(&scratch()),
                "/f",
                "/o/f",
            ))),
        ),
        (
            "copy from action chain",
            scratch().file(
                actions()
                    .then(copy(
                        actions().then(mkdir("/a", 0o700)).then(mkfile("/a/f", 0o644, "x")).on(&busybox()),
                        "/a",
                        "/b",
                    ))
                    .then(rm("/b/c")),
            ),
        ),
        (
            "file platform name",
            file(FileActions::from(mkdir("d", 0o755)).platform(linux("arm64")).custom_name("n")),
        ),
    ]
}

fn ops() -> Vec<(&'static str, State)> {
    let small = || scratch().file(mkfile("/f", 0o644, "x"));
    let pass = |id, inputs| passthrough(id, inputs, none()).pop().expect("an output");
    let base = alpine().run().shlex("base").root();
    let map = SourceMap::with_state(local("src").state(), "Dockerfile", "Dockerfile", "FROM x\nRUN y\n");
    let other = SourceMap::new("b", "", "z");
    let range = |a, b, c, d| [Range { start: (a, b), end: (c, d) }];
    vec![
        ("mkfile scratch twice", merge(&[small(), small()], none())),
        ("merge", merge(&[alpine(), busybox(), small()], none().custom_name("m"))),
        ("merge single", merge(&[busybox()], none())),
        ("merge with scratch", merge(&[scratch(), busybox(), scratch()], none())),
        ("merge none", merge(&[], none())),
        (
            "merge keeps metadata",
            on_x(&merge(&[busybox().env("A", "1").dir("/x"), alpine().env("B", "1")], none())),
        ),
        ("diff", diff(&busybox(), &on_x(&busybox()), none())),
        ("diff lower scratch", diff(&scratch(), &busybox(), none())),
        ("diff upper scratch", diff(&busybox(), &scratch(), none().custom_name("d"))),
        ("diff scratch scratch", diff(&scratch(), &scratch(), none())),
        ("diff same", diff(&busybox(), &busybox(), none())),
        ("requires", busybox().requires("id", [&alpine(), &scratch()])),
        ("requires none", busybox().requires("id", [])),
        (
            "passthrough",
            passthrough(
                "p",
                [PassthroughInput::dependency(&busybox()), PassthroughInput::output(&alpine())],
                none().custom_name("n"),
            )
            .remove(0),
        ),
        (
            "passthrough second output",
            on_x(&pass("p", vec![PassthroughInput::output(&busybox()), PassthroughInput::output(&alpine())])),
        ),
        ("passthrough no id", pass("", vec![PassthroughInput::output(&busybox())])),
        (
            "source map",
            image("busybox")
                .location(&map, range(1, 0, 1, 6))
                .state()
                .run()
                .args(["x"])
                .location(&map, range(2, 0, 2, 5))
                .location(&other, range(9, 1, 9, 2))
                .root(),
        ),
        ("source map empty range", image("busybox").location(&other, []).state()),
        ("diamond", merge(&[base.run().shlex("l").root(), base.run().shlex("r").root()], none())),
        (
            "same op different metadata",
            merge(
                &[
                    image("busybox").custom_name("a").state().run().args(["x"]).root(),
                    image("busybox").custom_name("b").ignore_cache().state().run().args(["y"]).root(),
                ],
                none(),
            ),
        ),
    ]
}

fn with_options() -> Vec<(&'static str, Case)> {
    let with = |state: State, change: fn(MarshalOptions) -> MarshalOptions| {
        let case = Case::from(state);
        Case { state: case.state, options: change(case.options) }
    };
    vec![
        ("local unique", with(local("ctx").state(), |o| o.local_unique_id("u1"))),
        ("local unique own", with(local("ctx").local_unique_id("u2").state(), |o| o.local_unique_id("u1"))),
        ("run require", with(x().require("a==b").require("c").root(), |o| o.require("z"))),
        ("run caps all", with(x().root(), |o| o.supported_caps(["exec.meta.setsdefaultpath"]))),
        ("run caps none", with(x().root(), |o| o.supported_caps([""; 0]))),
        (
            "run caps none with path",
            with(alpine().env("PATH", "/p").run().args(["x"]).root(), |o| o.supported_caps([""; 0])),
        ),
        ("marshal defaults", with(busybox(), |o| o.custom_name("d"))),
    ]
}

/// Calls of the recorder that this builder has no counterpart of: what is asynchronous there is done
/// before building here, and an output that does not exist cannot be named.
const WITHOUT_COUNTERPART: &[&str] = &[
    "scratch mkfile default platform",
    "image meta resolver",
    "image resolve digest",
    "get cache mount",
    "passthrough no output",
];

#[test]
fn calls_give_the_recorded_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../solver/pb/tests/vectors/llb.json");
    let vectors: Vec<Vector> =
        serde_json::from_str(&std::fs::read_to_string(path).expect("vectors")).expect("JSON");
    let mut cases: HashMap<&str, Case> = HashMap::new();
    for group in [sources(), execs(), mounts(), files(), ops()] {
        cases.extend(group.into_iter().map(|(name, state)| (name, Case::from(state))));
    }
    cases.extend(with_options());
    let mut failures = Vec::new();
    for vector in &vectors {
        let Some(case) = cases.remove(vector.name.as_str()) else {
            if !WITHOUT_COUNTERPART.contains(&vector.name.as_str()) {
                failures.push(format!("`{}` is not tested: {}", vector.name, vector.call));
            }
            continue;
        };
        match case.state.marshal(&case.options) {
            Err(error) if vector.error.is_empty() => {
                failures.push(format!("`{}`: {error}", vector.name));
            }
            Err(_) => {}
            Ok(_) if !vector.error.is_empty() => {
                failures.push(format!("`{}` must fail: {}", vector.name, vector.error));
            }
            Ok(definition) => {
                let expect =
                    base64::engine::general_purpose::STANDARD.decode(&vector.definition).expect("base64");
                if definition.encode_deterministic() != expect {
                    let expect: Definition = prost::Message::decode(expect.as_slice()).expect("a definition");
                    failures.push(format!(
                        "`{}` {}:\n{definition:#?}\nbut recorded is\n{expect:#?}",
                        vector.name, vector.call
                    ));
                }
                let again = State::from_definition(&definition).expect("loads");
                let again = again.marshal(&case.options).expect("marshals");
                assert_eq!(again.def, definition.def, "{} loaded and written", vector.name);
            }
        }
    }
    assert!(cases.is_empty(), "not recorded: {:?}", cases.keys());
    let count = failures.len();
    failures.truncate(3);
    assert_eq!(count, 0, "{}", failures.join("\n\n"));
}

#[test]
fn deep_graphs_are_built_written_and_freed() {
    let mut state = scratch();
    for _ in 0..50_000 {
        state = state.file(mkdir("/d", 0o755).parents());
    }
    let definition = state.marshal(&MarshalOptions::new()).expect("marshals");
    assert_eq!(definition.def.len(), 50_001);
    let loaded = State::from_definition(&definition).expect("loads");
    assert_eq!(loaded.marshal(&MarshalOptions::new()).expect("marshals").def, definition.def);
}

#[test]
fn malformed_definitions_are_refused() {
    let definition = x().root().marshal(&MarshalOptions::new()).expect("marshals");
    let mut missing = definition.clone();
    missing.def.remove(0);
    let mut garbage = definition.clone();
    garbage.def[1] = vec![0xff; 8].into();
    let mut pointless = definition.clone();
    pointless.def.truncate(1);
    for bad in [missing, garbage, pointless] {
        assert!(matches!(State::from_definition(&bad), Err(Error::Definition(_))));
    }
    assert!(State::from_definition(&Definition::default()).expect("empty").is_scratch());
}
