//! Registries that ask who is there, that are certified by nobody known, and that do not have what is wanted.

use buildkit_client_llb::{FileActions, State, image, mkfile, scratch};
use buildkit_util_appcontext::spawn_thread;
use buildkit_util_testutil::{
    Authority, DaemonOptions, Image, Layer, Output, Registry, RegistryAuth, RegistryOptions, Run,
};
use serde_json::json;

use crate::images::manifest;
use crate::sandbox::Sandbox;

fn small() -> State {
    scratch().file(FileActions::from(mkfile("/a", 0o644, "a")))
}

fn on(name: &str) -> State {
    image(name).state().file(FileActions::from(mkfile("/more", 0o644, "more")))
}

fn image_of(text: &str) -> Image {
    Image::new("linux/amd64", &[Layer::new().file("a", 0o644, text)], json!({}))
}

fn with_auth(auth: RegistryAuth, authority: Option<Authority>) -> Registry {
    Registry::start_with(RegistryOptions { auth, authority, ..RegistryOptions::default() })
}

/// `buildctl` whose credentials are in the directory `docker` of the sandbox.
fn as_user(sandbox: &Sandbox, state: &State) -> Run {
    sandbox.build(state).env("DOCKER_CONFIG", sandbox.path("docker"))
}

fn push(sandbox: &Sandbox, name: &str) -> Run {
    as_user(sandbox, &small()).args(["--output", &format!("type=image,name={name},push=true")])
}

/// The one line that says why, with these texts.
#[track_caller]
fn assert_says(output: &Output, texts: &[&str]) {
    let text = output.text();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    for wanted in texts {
        assert!(lines[0].contains(wanted), "{wanted} is not in: {}", lines[0]);
    }
}

fn write_config(sandbox: &Sandbox, registry: Option<&Registry>) {
    let dir = sandbox.path("docker");
    fs_err::create_dir_all(&dir).expect("directory of credentials");
    match registry {
        Some(registry) => registry.log_in(&dir),
        None => fs_err::write(dir.join("config.json"), "{}").expect("credentials"),
    }
}

#[test]
fn passwords_open_registries() {
    let (sandbox, registry) = (Sandbox::new(), with_auth(RegistryAuth::Password, None));
    let name = registry.push(&image_of("a"), "team/app", "v1");
    let host = registry.host();
    write_config(&sandbox, None);
    let none = as_user(&sandbox, &on(&name)).run().assert_fails();
    assert_says(&none, &[&host, "team/app:v1", "has no user name and password", "authorization failed"]);
    let none = push(&sandbox, &format!("{host}/team/new:v1")).run().assert_fails();
    assert_says(&none, &[&host, "team/new", "authorization failed"]);
    let wrong = json!({ "auths": { &host: { "auth": "dGVzdGVyOm5vbnNlbnNl" } } });
    fs_err::write(sandbox.path("docker/config.json"), wrong.to_string()).expect("credentials");
    let wrong = as_user(&sandbox, &on(&name)).run().assert_fails();
    assert_says(
        &wrong,
        &[&host, "team/app:v1", "user name and password were not accepted", "authorization failed"],
    );
    assert!(!wrong.text().contains("nonsense"), "passwords are not told: {}", wrong.text());
    write_config(&sandbox, Some(&registry));
    as_user(&sandbox, &on(&name)).run().assert_ok();
    push(&sandbox, &format!("{host}/team/new:v1")).run().assert_ok();
    as_user(&sandbox, &on(&format!("{host}/team/new:v1"))).run().assert_ok();
    assert!(!sandbox.daemon.log().contains("correct horse"), "passwords are not logged");
}

#[test]
fn a4_08_tokens_are_asked_for_with_the_least_scope() {
    // Tokens of the client, and those that the daemon fetches with the client's password.
    for no_client_token in ["", "1"] {
        let registry = with_auth(RegistryAuth::Token, None);
        let sandbox = Sandbox::new();
        let tokens = registry.tokens().expect("a token server");
        let (host, name) = (registry.host(), registry.push(&image_of("a"), "from/a", "v1"));
        let run = |run: Run| run.env("BUILDKIT_NO_CLIENT_TOKEN", no_client_token).run();
        write_config(&sandbox, None);
        let refused = run(push(&sandbox, &format!("{host}/to/b:v1"))).assert_fails();
        assert_says(&refused, &[&host, "to/b", "authorization failed"]);
        write_config(&sandbox, Some(&registry));
        tokens.take_requests();
        run(as_user(&sandbox, &on(&name))).assert_ok();
        let asked = |what: &str| {
            let requests = tokens.take_requests();
            assert!(!requests.is_empty(), "{what}: nobody asked");
            assert!(requests.iter().all(|request| request.user.as_deref() == Some("tester")), "{requests:?}");
            let mut scopes: Vec<_> = requests.into_iter().flat_map(|request| request.scopes).collect();
            scopes.sort();
            scopes.dedup();
            scopes
        };
        assert_eq!(asked("pull"), ["repository:from/a:pull"]);
        run(push(&sandbox, &format!("{host}/to/b:v1"))).assert_ok();
        assert_eq!(asked("push"), ["repository:to/b:pull,push"]);
        // Layers of a private repository are mounted: both are named, and only reading of that one.
        let copy = as_user(&sandbox, &image(&name).state())
            .args(["--output", &format!("type=image,name={host}/to/c:v1,push=true")]);
        run(copy).assert_ok();
        for scope in asked("mount") {
            assert!(
                ["repository:from/a:pull", "repository:to/c:pull,push"].contains(&scope.as_str()),
                "{scope}"
            );
        }
    }
}

#[test]
fn authorities_of_the_configuration_are_trusted() {
    let authority = Authority::new();
    let registry = with_auth(RegistryAuth::Token, Some(authority));
    let name = registry.push(&image_of("a"), "app", "v1");
    let host = registry.host();
    let trusting = Sandbox::with(DaemonOptions::new().config(&registry.daemon_config()));
    write_config(&trusting, Some(&registry));
    // The client fetches tokens, and does not know this authority.
    let daemon_asks = |run: Run| run.env("BUILDKIT_NO_CLIENT_TOKEN", "1").run();
    daemon_asks(as_user(&trusting, &on(&name))).assert_ok();
    daemon_asks(push(&trusting, &format!("{host}/new:v1"))).assert_ok();

    let registry = with_auth(RegistryAuth::None, Some(Authority::new()));
    let name = registry.push(&image_of("a"), "app", "v1");
    let host = registry.host();
    let strict = Sandbox::with(DaemonOptions::new().config(&format!("[registry.{host:?}]\nhttp = false\n")));
    let other = strict.build(&on(&name)).run().assert_fails();
    assert_says(&other, &[&host, "certificate"]);
    let toml = format!("[registry.{host:?}]\nhttp = false\ninsecure = true\n");
    let careless = Sandbox::with(DaemonOptions::new().config(&toml));
    write_config(&careless, None);
    careless.build(&on(&name)).run().assert_ok();
    push(&careless, &format!("{host}/new:v1")).run().assert_ok();
}

#[test]
fn mirrors_are_asked_first() {
    let mirror = Registry::start();
    mirror.push(&image_of("mirrored"), "some/path/library/app", "v1");
    let host = mirror.host();
    let toml = format!(
        "[registry.\"registry.invalid\"]\nmirrors = [\"{host}/some/path\"]\n[registry.{host:?}]\nhttp = true\n"
    );
    let sandbox = Sandbox::with(DaemonOptions::new().config(&toml));
    let out = sandbox.export(&image("registry.invalid/library/app:v1").state());
    assert_eq!(fs_err::read_to_string(out.join("a")).expect("a file"), "mirrored");
    // What no mirror has is the registry's.
    let none = sandbox.build(&on("registry.invalid/library/none:v1")).run().assert_fails();
    assert_says(&none, &["registry.invalid", "library/none:v1"]);
    // A mirror of another registry, which fetches what it is asked for.
    let origin = Registry::start();
    let name = origin.push(&image_of("origin"), "team/app", "v2");
    let mirror_of = Some(format!("http://{}", origin.host()));
    let mirror = Registry::start_with(RegistryOptions { mirror_of, ..RegistryOptions::default() });
    let toml = format!("[registry.{:?}]\nmirrors = [{:?}]\n", origin.host(), mirror.host());
    drop(sandbox);
    let sandbox = Sandbox::with(DaemonOptions::new().config(&toml));
    sandbox.build(&on(&name)).run().assert_ok();
    assert_eq!(manifest(&mirror, "team/app", "v2")["schemaVersion"], 2);
}

#[test]
fn refusals_are_told_in_one_line() {
    let sandbox = Sandbox::new();
    write_config(&sandbox, None);
    let origin = Registry::start();
    let mirror_of = Some(format!("http://{}", origin.host()));
    let reader = Registry::start_with(RegistryOptions { mirror_of, ..RegistryOptions::default() });
    let refused = push(&sandbox, &format!("{}/app:v1", reader.host())).run().assert_fails();
    assert_says(&refused, &[&reader.host(), "app", "405"]);
    let unreachable = push(&sandbox, "127.0.0.1:1/app:v1").run().assert_fails();
    assert_says(&unreachable, &["127.0.0.1:1", "refused"]);
    let name = origin.push(&image_of("a"), "app", "v1");
    let missing = sandbox.build(&on(&name.replace(":v1", ":v2"))).run().assert_fails();
    assert_says(&missing, &["app:v2", "not found"]);
    let arm = Image::index(&[Image::new("linux/arm64", &[Layer::new()], json!({}))]);
    let name = origin.push(&arm, "arm", "v1");
    let missing = sandbox.build(&on(&name)).run().assert_fails();
    assert_says(&missing, &["arm:v1", "no match for platform", "linux/arm64"]);
    let nameless = sandbox.build(&small()).args(["--output", "type=image,push=true,name=UPPER"]).run();
    assert_says(&nameless.assert_fails(), &["UPPER"]);
}

/// That the daemon has an image of one repository does not let anybody read it as another's.
#[test]
fn a1_03_digests_are_looked_up_in_their_repository() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let pushed = image_of("secret");
    let name = registry.push(&pushed, "private/a", "v1");
    let digest = pushed.digest();
    sandbox.build(&on(&name)).run().assert_ok();
    sandbox.build(&on(&format!("{}/private/a@{digest}", registry.host()))).run().assert_ok();
    let other = format!("{}/public/b@{digest}", registry.host());
    let refused = sandbox.build(&on(&other)).run().assert_fails();
    assert_says(&refused, &["public/b", "not found"]);
    let locked = with_auth(RegistryAuth::Password, None);
    write_config(&sandbox, None);
    let refused = as_user(&sandbox, &on(&format!("{}/b@{digest}", locked.host()))).run().assert_fails();
    assert_says(&refused, &[&locked.host(), "authorization failed"]);
    // Without the registry it is not theirs either.
    let gone = registry.host();
    drop(registry);
    let refused = sandbox.build(&on(&format!("{gone}/public/b@{digest}"))).run().assert_fails();
    assert_says(&refused, &[&gone]);
}

/// A registry that has but one answer, for whoever asks.
struct Down(std::net::SocketAddr);

impl Down {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // It ends with the process of the test.
        let accept = move || {
            for stream in listener.incoming().flatten() {
                spawn_thread("answer", move || Self::answer(stream)).expect("a thread");
            }
        };
        spawn_thread("registry that is down", accept).expect("a thread");
        Self(address)
    }

    fn answer(mut stream: std::net::TcpStream) {
        use std::io::{BufRead as _, BufReader, Write as _};
        let Ok(reading) = stream.try_clone() else { return };
        let head = BufReader::new(reading).lines().map_while(Result::ok);
        if head.take_while(|line| !line.is_empty()).count() > 0 {
            let text =
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndown";
            let _ = stream.write_all(text.as_bytes());
        }
    }
}

#[test]
fn new_tries_are_in_the_log_of_the_build() {
    let (sandbox, down) = (Sandbox::new(), Down::start());
    let name = format!("{}/a:v1", down.0);
    let pull = sandbox.build(&on(&name));
    let push = sandbox.build(&small()).args(["--output", &format!("type=image,name={name},push=true")]);
    for run in [pull, push] {
        let text = run.run().assert_fails().text();
        let tries = text.lines().filter(|line| line.contains("retrying in ")).count();
        let errors = text.lines().filter(|line| line.contains(" error: ") && line.contains("503")).count();
        assert!(tries >= 4 && errors >= tries, "{text}");
    }
}
