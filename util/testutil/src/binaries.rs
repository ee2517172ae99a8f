//! The programs under test.

use std::{env, path::PathBuf};

/// The path of a program of this workspace, such as `buildkitd`.
///
/// It is taken from `BUILDKIT_TEST_BIN_DIR`, else from the directory that cargo built the running test into
/// (`target/debug`), so that tests drive what was built with them: `cargo build --workspace --bins`.
///
/// # Panics
/// When it is not there.
pub fn binary(name: &str) -> PathBuf {
    let path = match env::var_os("BUILDKIT_TEST_BIN_DIR") {
        Some(dir) => PathBuf::from(dir).join(name),
        None => {
            let test = env::current_exe().expect("path of the test program");
            let deps = test.parent().expect("directory of the test program");
            let dir = if deps.ends_with("deps") { deps.parent().expect("target directory") } else { deps };
            dir.join(name)
        }
    };
    assert!(path.is_file(), "`{}` is missing: run `cargo build --workspace --bins` first", path.display());
    path
}
