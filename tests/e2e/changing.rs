//! A4-18: files that change while the client sends them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use buildkit_client_llb::{FileActions, copy, local, scratch};
use buildkit_util_testutil::rounds;

use crate::sandbox::{Sandbox, to_directory};

const FILES: u32 = 40;

/// One version of a file: all of it is the same letter, and its length goes with the letter.
fn version(n: u32) -> Vec<u8> {
    let letter = n % 8;
    vec![b'a' + letter as u8; 20_000 * (letter as usize + 1)]
}

fn is_version(content: &[u8]) -> bool {
    (0..8).any(|n| content == version(n))
}

/// Does to a file what editors, compilers and people do, without ever leaving half a version for long.
fn change(dir: &Path, n: u32) {
    let file = |kind: &str| dir.join(format!("{kind}{}", n % FILES));
    let replace = |path: &Path, content: &[u8]| {
        let new = dir.join("new");
        fs_err::write(&new, content).unwrap();
        fs_err::rename(new, path).unwrap();
    };
    replace(&file("replaced"), &version(n));
    // Grows in place; begins anew when it is long.
    let grown = file("grown");
    if fs_err::metadata(&grown).map_or(true, |meta| meta.len() > 400_000) {
        replace(&grown, b"");
    }
    let mut log = fs_err::OpenOptions::new().append(true).create(true).open(&grown).unwrap();
    std::io::Write::write_all(&mut log, &[b'g'; 10_000]).unwrap();
    let gone = file("gone");
    let _ = fs_err::remove_file(&gone);
    if !n.is_multiple_of(3) {
        replace(&gone, &version(n));
    }
    let link = file("link");
    let _ = fs_err::remove_file(&link);
    if !n.is_multiple_of(2) {
        symlink("/etc/passwd", &link).unwrap();
    } else {
        replace(&link, &version(n));
    }
}

/// Ends the changes, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of each file one version arrives, whole, or the build says that it could not have one; nothing is made of
/// two versions, and nothing of an earlier state is left when the files are at rest.
#[test]
fn a4_18_files_change_while_they_are_sent() {
    let mut sandbox = Sandbox::new();
    let context = sandbox.path("context");
    fs_err::create_dir(&context).unwrap();
    (0..FILES).for_each(|n| change(&context, n));
    let files = local("context").state();
    let state = scratch().file(FileActions::from(copy(&files, "/", "/").contents_only()));
    let build = |out: &Path| {
        let _ = fs_err::remove_dir_all(out);
        let context = format!("context={}", context.display());
        sandbox.build(&state).arg("--local").arg(context).args(to_directory(out)).run()
    };
    let out = sandbox.path("out");
    let stop = AtomicBool::new(false);
    let (mut whole, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                change(&context, n);
            }
        });
        for round in 0..rounds(25) {
            let output = build(&out);
            if !output.status.success() {
                let text = output.text();
                assert!(text.contains("changed while it was sent"), "{text}");
                refused += 1;
                continue;
            }
            whole += 1;
            for entry in fs_err::read_dir(&out).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if fs_err::symlink_metadata(&path).unwrap().is_symlink() {
                    assert!(name.starts_with("link"), "round {round}: {name}");
                    continue;
                }
                let content = fs_err::read(&path).unwrap();
                let right = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
                    "grown" => content.iter().all(|byte| *byte == b'g'),
                    // Half of one may be told and sent.
                    "new" => content.iter().all(|byte| *byte == content[0]),
                    _ => is_version(&content),
                };
                assert!(right, "round {round}: {name} has {} bytes that no version has", content.len());
            }
        }
    });
    println!("{whole} builds with all files, {refused} refused");
    for n in 0..2 {
        let output = build(&out).assert_ok();
        let same = buildkit_util_testutil::Run::new("diff").arg("-r").arg("--no-dereference");
        same.arg(&context).arg(&out).run().assert_ok();
        assert!(n == 0 || output.text().contains("CACHED"), "{}", output.text());
    }
    sandbox.assert_serves("after changes");
}
