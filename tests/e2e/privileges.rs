//! What a build may do only with the daemon's and the client's consent.

use buildkit_client_llb::{Mount, Network, Secret, Security, Ssh, State};
use buildkit_util_testutil::{DaemonOptions, Run};

use crate::sandbox::{Sandbox, base, to_directory};

fn step(security: Security, network: Network, script: &str) -> State {
    let run = base().run().security(security).network(network).args(["/bin/sh", "-c", script]);
    run.mount("/out", Mount::scratch()).done().mount("/out").unwrap()
}

/// A1-08's rule for exec ops: neither the daemon's nor the client's grant is enough alone.
#[test]
fn entitlements_take_both_grants() {
    let wanted = [
        ("security.insecure", step(Security::Insecure, Network::Sandbox, "grep CapEff /proc/self/status")),
        ("network.host", step(Security::Sandbox, Network::Host, "readlink /proc/self/ns/net")),
    ];
    for granted in [false, true] {
        let mut options = DaemonOptions::new();
        for (name, _) in wanted.iter().filter(|_| granted) {
            options = options.flag(format!("--allow-insecure-entitlement={name}"));
        }
        let sandbox = Sandbox::with(options);
        for (name, state) in &wanted {
            let output = sandbox.build(state).run().assert_fails();
            assert!(output.text().contains(name), "without the client's: {}", output.text());
            let both = sandbox.build(state).args(["--allow", name]).run();
            if !granted {
                let text = both.assert_fails().text();
                assert!(text.contains(name), "without the daemon's: {text}");
                continue;
            }
            let text = both.assert_ok().text();
            match *name {
                // All of this machine's, more than the fourteen of a sandbox.
                "security.insecure" => {
                    let caps = text.split("CapEff:").nth(1).unwrap().split_whitespace().next().unwrap();
                    let caps = u64::from_str_radix(caps, 16).unwrap();
                    assert!(caps & (1 << 21) != 0, "no CAP_SYS_ADMIN: {text}");
                }
                _ => {
                    let here = std::fs::read_link("/proc/self/ns/net").unwrap();
                    assert!(text.contains(here.to_str().unwrap()), "{text}");
                }
            }
        }
        if granted {
            // The other's grant is not this one's.
            let output = sandbox.build(&wanted[0].1).args(["--allow", "network.host"]).run().assert_fails();
            assert!(output.text().contains("security.insecure"), "{}", output.text());
        }
        sandbox.build(&wanted[0].1).args(["--allow", "no.such.thing"]).run().assert_fails();
    }
}

#[test]
fn secrets_are_files_and_variables() {
    let sandbox = Sandbox::new();
    fs_err::write(sandbox.path("file"), "of a file").unwrap();
    let script = "cat /run/secrets/f; echo \" $E\"; stat -c '%u %g %a' /run/secrets/f; \
                  test ! -e /run/secrets/none && echo \"optional is ${NONE-unset}\"";
    let state = base()
        .run()
        .args(["/bin/sh", "-c", script])
        .secret(Secret::file("f", "/run/secrets/f").owner(1000, 2000, 0o440))
        .secret(Secret::env("e", "E"))
        .secret(Secret::file("none", "/run/secrets/none").optional())
        .done()
        .root();
    let build = || sandbox.build(&state).env("VARIABLE", "of a variable");
    let file = format!("id=f,src={}", sandbox.path("file").display());
    let output = build().args(["--secret", &file, "--secret", "id=e,env=VARIABLE"]).run().assert_ok().text();
    for line in ["of a file of a variable\n", "1000 2000 440\n", "optional is unset\n"] {
        assert!(output.contains(line), "{line:?}: {output}");
    }
    let output = build().args(["--secret", &file, "--no-cache"]).run().assert_fails();
    assert!(output.text().contains("secret e: not found"), "{}", output.text());
}

/// Keys of an agent on the client's machine are used in a step, and cannot be read there.
#[test]
fn ssh_agents_are_forwarded() {
    let sandbox = Sandbox::new();
    let key = sandbox.path("key");
    let comment = "canary-of-the-agent";
    Run::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(&key)
        .run()
        .assert_ok();
    let socket = sandbox.path("agent");
    let mut agent = Run::new("ssh-agent").args(["-D", "-a"]).arg(&socket).start();
    agent.wait_for_text("SSH_AUTH_SOCK");
    Run::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).run().assert_ok();
    fs_err::copy(buildkit_util_testutil::binary("ssh-list"), sandbox.path("rootfs/bin/ssh-list")).unwrap();
    link_libraries(&sandbox);
    let list = |ssh: Ssh| base().run().args(["/bin/ssh-list"]).ssh(ssh).done().root();
    let forwarded = format!("default={}", socket.display());
    let output =
        sandbox.build(&list(Ssh::new("default"))).args(["--ssh", &forwarded]).run().assert_ok().text();
    assert!(output.contains(comment), "{output}");
    // A key in a file does without an agent.
    let file = format!("default={}", key.display());
    let output = sandbox.build(&list(Ssh::new("default"))).args(["--ssh", &file, "--no-cache"]).run();
    assert!(output.assert_ok().text().contains("ssh-ed25519"));
    let output = sandbox.build(&list(Ssh::new("other"))).args(["--ssh", &forwarded]).run().assert_fails();
    assert!(output.text().contains("other"), "{}", output.text());
    sandbox.build(&list(Ssh::new("default"))).arg("--no-cache").run().assert_fails();
}

/// The program is not static where tests are built.
fn link_libraries(sandbox: &Sandbox) {
    let needed = Run::new("ldd").arg(sandbox.path("rootfs/bin/ssh-list")).run();
    for word in needed.stdout.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = sandbox.path("rootfs").join(word.trim_start_matches('/'));
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        fs_err::copy(word, target).unwrap();
    }
}

#[test]
fn metadata_files_tell_of_the_build() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("metadata.json");
    fs_err::write(&file, "of an earlier build").unwrap();
    let build = |state: &State| sandbox.build(state).arg("--metadata-file").arg(&file);
    build(&base()).args(to_directory(&sandbox.path("out"))).run().assert_ok();
    let text = fs_err::read_to_string(&file).unwrap();
    assert!(text.starts_with('{') && text.ends_with('}'), "{text}");
    Run::new("jq").arg(".").arg(&file).run().assert_ok();
    build(&step(Security::Sandbox, Network::Sandbox, "false")).run().assert_fails();
}
