//! Both ends of a session, in one process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use buildkit_session::{SessionCaller, SessionManager, SessionServer};
use buildkit_session_filesync::{
    Error, FileOutput, FsSyncProvider, FsSyncRequest, FsSyncTarget, Target, copy_file_writer, copy_to_caller,
    fs_sync,
};
use buildkit_util_appcontext::{TaskGuard, spawn, spawn_blocking};
use buildkit_util_fsutil::{DirFs, FileSystem};
use buildkit_util_system::Root;

struct Session {
    caller: SessionCaller,
    _tasks: [TaskGuard<()>; 2],
}

async fn session(dirs: BTreeMap<String, Arc<dyn FileSystem>>, targets: BTreeMap<usize, Target>) -> Session {
    let mut server = SessionServer::new("").await;
    server.allow(FsSyncProvider::new(dirs).service(), FsSyncProvider::METHODS);
    server.allow(FsSyncTarget::new(targets), FsSyncTarget::METHODS);
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (id, headers) = (server.id().to_owned(), server.headers());
    let manager = SessionManager::new();
    let serving = spawn(async move { drop(server.serve(theirs).await) });
    let managing = manager.clone();
    let managed = spawn(async move { drop(managing.serve(ours, headers).await) });
    let caller = manager.get(&id, buildkit_session::LOOKUP_WAIT).await.expect("opens");
    Session { caller, _tasks: [serving, managed] }
}

fn tree(paths: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for path in paths {
        let at = dir.path().join(path);
        std::fs::create_dir_all(at.parent().expect("is inside")).expect("directory");
        std::fs::write(at, path).expect("file");
    }
    dir
}

fn fs(path: &Path) -> Arc<dyn FileSystem> {
    Arc::new(DirFs::open(path).expect("opens"))
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("reads");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("reads").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn root(dir: &tempfile::TempDir) -> Root {
    Root::open(dir.path()).expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_what_is_shared() {
    let source = tree(&["a/x", "b", "ünïcode", "c.txt"]);
    std::fs::write(source.path().join("big"), vec![3; 20 << 20]).expect("file");
    let session = session(BTreeMap::from([("context".to_owned(), fs(source.path()))]), BTreeMap::new()).await;
    let dest = tree(&["old"]);
    let request = FsSyncRequest {
        name: "context".to_owned(),
        include: vec!["ü*".to_owned(), "a".to_owned(), "b*".to_owned()],
        exclude: vec!["b".to_owned()],
        ..FsSyncRequest::default()
    };
    fs_sync(&session.caller, root(&dest), request).await.expect("pulls");
    assert_eq!(names(dest.path()), ["a", "big", "ünïcode"]);
    assert_eq!(std::fs::read(dest.path().join("big")).expect("reads"), vec![3; 20 << 20]);
    let request = FsSyncRequest { name: "/etc".to_owned(), ..FsSyncRequest::default() };
    let error = fs_sync(&session.caller, root(&dest), request).await.expect_err("is not shared");
    assert!(
        matches!(&error, Error::NoAccess(text) if text == "no access allowed to dir \"/etc\""),
        "{error:?}"
    );
    let request = FsSyncRequest {
        name: "context".to_owned(),
        exclude: vec!["[".to_owned()],
        ..FsSyncRequest::default()
    };
    let error = fs_sync(&session.caller, root(&dest), request).await.expect_err("is malformed");
    assert_eq!(error.to_string(), "invalid excludepatterns: [[]: syntax error in pattern");
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_into_directories() {
    let source = tree(&["a/x", "b"]);
    let (merged, mirrored) = (tree(&["old", "b"]), tree(&["old/x", "b"]));
    let target = |dir: &tempfile::TempDir, delete| Target::Dir { path: dir.path().join("out"), delete };
    std::fs::create_dir(mirrored.path().join("out")).expect("directory");
    std::fs::write(mirrored.path().join("out/extra"), "x").expect("file");
    let targets = BTreeMap::from([(1, target(&merged, false)), (2, target(&mirrored, true))]);
    let session = session(BTreeMap::new(), targets).await;
    let push = |id, all| copy_to_caller(&session.caller, fs(source.path()), id, all, None);
    push(1, false).await.expect("pushes");
    assert_eq!(names(&merged.path().join("out")), ["a", "b"]);
    let error = push(2, false).await.expect_err("may not delete");
    assert!(error.to_string().starts_with("local exporter mode=delete requires"), "{error}");
    push(2, true).await.expect("pushes");
    assert_eq!(names(&mirrored.path().join("out")), ["a", "b"]);
    let error = push(7, false).await.expect_err("is not there");
    assert_eq!(error.to_string(), "exporter 7 not found");
}

struct Output(std::fs::File, std::path::PathBuf);

impl io::Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl FileOutput for Output {
    fn finish(self: Box<Self>) -> io::Result<()> {
        std::fs::rename(self.1.with_extension("part"), &self.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_one_file() {
    let dir = tree(&[]);
    let at = dir.path().join("image.tar");
    let path = at.clone();
    let open = move |described: BTreeMap<String, String>| {
        assert_eq!(described.get("name").map(String::as_str), Some("ä"));
        let file = std::fs::File::create(path.with_extension("part"))?;
        Ok(Some(Box::new(Output(file, path.clone())) as Box<dyn FileOutput>))
    };
    let targets = BTreeMap::from([
        (0, Target::File(Arc::new(open))),
        (1, Target::File(Arc::new(|_| Ok(None)))),
        (2, Target::File(Arc::new(|_| Err(io::Error::other("disk is full"))))),
    ]);
    let session = session(BTreeMap::new(), targets).await;
    let described = BTreeMap::from([("Name".to_owned(), "ä".to_owned())]);
    let mut writer = copy_file_writer(&session.caller, &described, 0).expect("is supported");
    writer.write_bytes(vec![1; 5 << 20].into()).await.expect("writes");
    let writer = spawn_blocking(move || {
        writer.write_all(&vec![2; 3 << 20]).expect("writes");
        writer
    });
    writer.await.expect("runs").finish().await.expect("finishes");
    let content = std::fs::read(&at).expect("reads");
    assert_eq!((content.len(), content[0], content[(8 << 20) - 1]), (8 << 20, 1, 2));
    std::fs::remove_file(&at).expect("removes");
    // One that is given up is not finished.
    let mut writer = copy_file_writer(&session.caller, &described, 0).expect("is supported");
    writer.write_bytes(vec![1; 5 << 20].into()).await.expect("writes");
    drop(writer);
    let writer = copy_file_writer(&session.caller, &BTreeMap::new(), 1).expect("is supported");
    assert!(matches!(writer.finish().await, Err(Error::AlreadyExists(_))));
    let mut writer = copy_file_writer(&session.caller, &BTreeMap::new(), 2).expect("is supported");
    let error = loop {
        if let Err(error) = writer.write_bytes(vec![1; 1 << 20].into()).await {
            break error;
        }
    };
    assert_eq!(error.to_string(), "disk is full");
    assert!(!at.exists());
}
