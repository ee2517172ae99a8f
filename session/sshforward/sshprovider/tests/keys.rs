//! Keys given by file, used by OpenSSH's own programs through a session.

mod support;

use std::path::Path;

use buildkit_session_sshforward_sshprovider::{Agents, Error};
use support::{agent, keygen, listen, offer, ssh, ssh_ok};

/// Type and key of a line of a public key.
fn identity(line: &str) -> String {
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn openssh_lists_and_signs_with_keys_of_all_kinds() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut keys = Vec::new();
    for (name, args) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("rsa-pkcs1", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        ("rsa-pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
        ("p256-sec1", &["-t", "ecdsa", "-b", "256", "-m", "PEM"]),
        ("p384-pkcs8", &["-t", "ecdsa", "-b", "384", "-m", "PKCS8"]),
    ] {
        let args: Vec<&str> = args.iter().copied().chain(["-N", ""]).collect();
        keys.push(keygen(dir.path(), name, &args).await);
    }
    let paths: Vec<&Path> = keys.iter().map(|path| path.as_path()).collect();
    // One of them twice, which is as good as once.
    let paths: Vec<&Path> = paths.iter().copied().chain([paths[0]]).collect();
    let pair = offer([agent("k", &paths, false)]).await;
    let socket = listen(&pair, "k", dir.path());

    let listed = ssh_ok(socket.path(), "ssh-add", &["-L"]).await;
    let public: Vec<String> = keys
        .iter()
        .map(|path| std::fs::read_to_string(path.with_extension("pub")).expect("a public key"))
        .collect();
    let expect: Vec<String> = public.iter().map(|line| identity(line)).collect();
    assert_eq!(listed.lines().map(identity).collect::<Vec<_>>(), expect);
    assert!(listed.lines().next().is_some_and(|line| line.ends_with(" ed25519")), "{listed}");

    let file = dir.path().join("file");
    for (path, public) in keys.iter().zip(&public) {
        std::fs::write(&file, public).expect("written");
        // Only the agent can sign: the private key is out of the way.
        std::fs::rename(path, dir.path().join("away")).expect("renamed");
        let public_file = path.with_extension("pub").display().to_string();
        let data = file.display().to_string();
        ssh_ok(socket.path(), "ssh-keygen", &["-Y", "sign", "-f", &public_file, "-n", "test", &data]).await;
        let signature = format!("{data}.sig");
        let verify = ["-Y", "check-novalidate", "-n", "test", "-s", &signature];
        let input = std::fs::File::open(&file).expect("opens");
        let verified = tokio::process::Command::new("ssh-keygen").args(verify).stdin(input).output();
        let verified = verified.await.expect("runs");
        assert!(verified.status.success(), "{public}{}", String::from_utf8_lossy(&verified.stderr));
        std::fs::remove_file(signature).expect("removed");
        // This asks for a signature with SHA-1 of RSA keys.
        let asked = ssh(socket.path(), "ssh-add", &["-T", &public_file]).await;
        assert_eq!(asked.status.success(), !public.starts_with("ssh-rsa"), "{public}");
    }
}

#[tokio::test]
async fn the_agent_cannot_be_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = keygen(dir.path(), "key", &["-t", "ed25519", "-N", ""]).await;
    let other = keygen(dir.path(), "other", &["-t", "ed25519", "-N", ""]).await;
    let (public, other) = (key.with_extension("pub").display().to_string(), other.display().to_string());
    let pair = offer([agent("", &[&key], false)]).await;
    let socket = listen(&pair, "", dir.path());
    let before = ssh_ok(socket.path(), "ssh-add", &["-L"]).await;
    for args in [&["-D"][..], &["-d", &public], &[&other], &["-e", "/lib/x.so"]] {
        let output = ssh(socket.path(), "ssh-add", args).await;
        assert!(!output.status.success(), "{args:?} succeeds");
    }
    assert_eq!(ssh_ok(socket.path(), "ssh-add", &["-L"]).await, before);
}

#[tokio::test]
async fn keys_that_cannot_be_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let locked = keygen(dir.path(), "locked", &["-t", "ed25519", "-N", "secret"]).await;
    let locked_pem =
        keygen(dir.path(), "pem", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"]).await;
    let locked_p8 =
        keygen(dir.path(), "p8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "secret"]).await;
    let public = locked.with_extension("pub");
    let cut = dir.path().join("cut");
    let text = std::fs::read(&locked).expect("read");
    std::fs::write(&cut, &text[..text.len() / 2]).expect("written");
    for (path, expect) in [
        (&locked, "passphrase protected"),
        (&locked_pem, "passphrase protected"),
        (&locked_p8, "passphrase protected"),
        (&public, "not a private key"),
        (&cut, "not a private key"),
    ] {
        let error = Agents::new([agent("k", &[path], false)], |_| None).expect_err(expect);
        assert!(matches!(error, Error::Key { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(expect) && text.contains(&path.display().to_string()), "{text}");
    }
}
