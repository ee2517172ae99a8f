//! Names of git repositories, as contexts, `ADD` and `FROM` take them.
#![no_main]

use buildkit_frontend_dockerfile_dfgitutil::GitRef;
use buildkit_util_gitutil::GitUrl;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(url) = GitUrl::parse(text) {
        // What git is given names the same place, and nothing that is wanted of it.
        let again = GitUrl::parse(&url.remote).expect("what is written reads");
        assert_eq!((again.host, again.path), (url.host, url.path), "{}", url.remote);
        assert_eq!((again.fragment.as_str(), again.query.len()), ("", 0), "{}", url.remote);
        assert_eq!(again.remote, url.remote);
        // It is a command line's argument.
        assert!(!url.remote.starts_with('-'), "{}", url.remote);
    }
    if let Some(Ok(git)) = GitRef::parse(text) {
        assert!(!git.short_name.contains('/'), "{}", git.short_name);
    }
});
