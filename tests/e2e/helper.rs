//! The program for steps of tests, see `tests/helper`.

use std::path::Path;

use buildkit_util_testutil::Run;

/// Puts it into a root file system as `/bin/step-helper`, with the libraries that it needs.
pub fn install(rootfs: &Path) {
    let program = env!("CARGO_BIN_EXE_step-helper");
    fs_err::copy(program, rootfs.join("bin/step-helper")).expect("copy of a program");
    // Says so of programs that need none.
    let listed = Run::new("ldd").arg(program).run().text();
    for path in listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')) {
        let target = rootfs.join(path.trim_start_matches('/'));
        fs_err::create_dir_all(target.parent().expect("a directory")).expect("a directory of libraries");
        fs_err::copy(path, target).expect("copy of a library");
    }
}
