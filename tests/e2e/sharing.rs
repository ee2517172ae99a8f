//! Builds that share steps and caches at the same time.

use std::time::Duration;

use buildkit_client_llb::{CacheSharing, FileActions, Mount, State, mkfile, scratch};

use crate::sandbox::{Sandbox, base, to_directory, together};

fn is_soak() -> bool {
    std::env::var_os("BUILDKIT_TEST_SOAK").is_some()
}

/// A step on the base with a cache that all see.
fn with_cache(script: &str) -> State {
    let run = base()
        .run()
        .args(["/bin/sh", "-c", script])
        .mount("/cache", Mount::cache("all", CacheSharing::Shared));
    run.mount("/out", Mount::scratch()).done().mount("/out").expect("a mount")
}

#[test]
fn a1_19_steps_of_many_clients_run_once() {
    let mut sandbox = Sandbox::new();
    let id = sandbox.daemon.id();
    let (clients, vertices) = if is_soak() { (200, 50) } else { (20, 50) };
    let shared: Vec<State> =
        (0..vertices).map(|n| with_cache(&format!("echo {n} >> /cache/ran; echo {n} > /out/{n}"))).collect();
    // Each begins with another one, so that they meet at all of them.
    let running: Vec<_> = (0..clients)
        .map(|client| {
            let mut mine = shared.clone();
            mine.rotate_left(client % vertices);
            mine.push(scratch().file(FileActions::from(mkfile("/client", 0o644, client.to_string()))));
            let out = sandbox.path(&format!("out-{client}"));
            let build = sandbox.build(&together(&mine)).args(to_directory(&out));
            (client, out, build.deadline(Duration::from_secs(500)).start())
        })
        .collect();
    for (client, out, running) in running {
        running.wait().assert_ok();
        assert_eq!(fs_err::read_to_string(out.join("client")).unwrap(), client.to_string());
        for n in 0..vertices {
            assert_eq!(fs_err::read_to_string(out.join(n.to_string())).unwrap(), format!("{n}\n"));
        }
    }
    assert_eq!(sandbox.daemon.id(), id);
    let out = sandbox.export(&with_cache("cat /cache/ran > /out/result"));
    let ran = fs_err::read_to_string(out.join("result")).unwrap();
    let mut ran: Vec<usize> = ran.lines().map(|line| line.parse().unwrap()).collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..vertices).collect::<Vec<_>>(), "each ran once");
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
    sandbox.assert_serves("after many clients");
}

#[test]
fn a1_06_a2_21_a_directory_swapped_meanwhile_leads_nowhere() {
    /// Mounts of one step, each a try of its own.
    const MOUNTS: usize = 40;
    let mut sandbox = Sandbox::new();
    crate::helper::install(&sandbox.path("rootfs"));
    let canary = sandbox.path("canary");
    fs_err::create_dir(&canary).unwrap();
    fs_err::write(canary.join("host-canary"), "outside").unwrap();
    let path = canary.display();
    // The link leads somewhere inside as well, so that steps start whichever of the two they meet.
    let swap = format!(
        "cd /cache && mkdir -p d .{path} && echo > d/inside-directory && echo > .{path}/inside-link && ln -s {path} link && \
         echo started-swapping && exec /bin/step-helper exchange d link"
    );
    let mut swapping = sandbox.build(&with_cache(&swap)).deadline(Duration::from_secs(3_000)).start();
    swapping.wait_for_text("started-swapping\n");
    let (mut directories, mut links) = (0, 0);
    for round in 0..if is_soak() { 2_500 } else { 10 } {
        let script = format!("echo {round}; ls /m/* > /out/result");
        let mut run = base().run().args(["/bin/sh", "-c", &script]).mount("/out", Mount::scratch());
        for n in 0..MOUNTS {
            run = run.mount(&format!("/m/{n}"), Mount::cache("all", CacheSharing::Shared).selector("d"));
        }
        let out = sandbox.export(&run.done().mount("/out").unwrap());
        let seen = fs_err::read_to_string(out.join("result")).unwrap();
        assert!(!seen.contains("host-canary"), "{seen}");
        directories += seen.matches("inside-directory").count();
        links += seen.matches("inside-link").count();
    }
    println!("{directories} tries met the directory, {links} the link");
    assert!(directories > 0 && links > 0, "{directories} directories, {links} links: nothing was swapped");
    assert!(swapping.ended().is_none(), "{}", swapping.stderr());
    swapping.signal(rustix::process::Signal::INT);
    swapping.wait().assert_fails();
    assert_eq!(fs_err::read_to_string(canary.join("host-canary")).unwrap(), "outside");
    sandbox.assert_serves("after swaps");
}
