//! Trees sent and received over channels.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil::types::packet::PacketType;
use buildkit_util_fsutil::types::{Packet, Stat};
use buildkit_util_fsutil::{
    Change, ContentHasher, ContentHook, Differ, DirFs, Error, FileSystem, METADATA_FILE, ReceiveOptions,
    SendOptions, mode, receive, send, walk_all,
};
use buildkit_util_system::Root;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};

type Never = std::convert::Infallible;

/// Sends one directory into another and gives the number of files that were asked for.
async fn sync(source: &Path, dest: &Path, options: ReceiveOptions) -> Result<usize, Error> {
    let (to_receiver, from_sender) = mpsc::channel(16);
    let (to_sender, from_receiver) = mpsc::unbounded_channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let mut requests = UnboundedReceiverStream::new(from_receiver).map(move |packet: Packet| {
        if packet.r#type == PacketType::PacketReq as i32 {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        Ok::<_, Never>(packet)
    });
    let mut packets = ReceiverStream::new(from_sender).map(Ok::<_, Never>);
    let fs = Arc::new(DirFs::open(source).expect("opens"));
    let (sent, received) = tokio::join!(
        send(fs, &mut requests, to_receiver, SendOptions::default()),
        receive(Root::open(dest).expect("opens"), &mut packets, to_sender, options),
    );
    received?;
    sent?;
    Ok(asked.load(Ordering::SeqCst))
}

/// Feeds packets to a receiver as a peer that may do anything.
async fn feed(dest: &Path, packets: Vec<Packet>) -> Result<(), Error> {
    let (to_sender, _from_receiver) = mpsc::unbounded_channel();
    let mut packets = futures::stream::iter(packets.into_iter().map(Ok::<_, Never>));
    receive(Root::open(dest).expect("opens"), &mut packets, to_sender, ReceiveOptions::default()).await
}

fn stat_packet(stat: Stat) -> Packet {
    Packet { r#type: PacketType::PacketStat as i32, stat: Some(stat), ..Packet::default() }
}

fn last_stat() -> Packet {
    Packet { r#type: PacketType::PacketStat as i32, ..Packet::default() }
}

fn data(id: u32, data: &'static [u8]) -> Packet {
    Packet { r#type: PacketType::PacketData as i32, id, data: data.into(), ..Packet::default() }
}

fn fin() -> Packet {
    Packet { r#type: PacketType::PacketFin as i32, ..Packet::default() }
}

fn file(path: &str) -> Stat {
    Stat { path: path.to_owned(), mode: 0o644, size: 1, ..Stat::default() }
}

fn dir(path: &str) -> Stat {
    Stat { path: path.to_owned(), mode: mode::DIR | 0o755, ..Stat::default() }
}

/// All entries with their attributes, but for times of directories that have no entry of their own.
fn listing(path: &Path) -> Vec<Stat> {
    let fs = DirFs::open(path).expect("opens");
    let mut all = Vec::new();
    walk_all(&fs, |stat| {
        all.push(stat);
        Ok(())
    })
    .expect("walks");
    all
}

fn assert_same(source: &Path, dest: &Path) {
    assert_eq!(listing(source), listing(dest));
    for stat in listing(source) {
        if mode::is_regular(stat.mode) {
            let read = |root: &Path| std::fs::read(root.join(&stat.path)).expect("reads");
            assert_eq!(read(source), read(dest), "{}", stat.path);
        }
    }
}

fn sample() -> tempfile::TempDir {
    assert!(rustix::process::geteuid().is_root(), "needs root to make devices and change owners");
    let source = tempfile::tempdir().expect("temporary directory");
    let at = |path: &str| source.path().join(path);
    std::fs::create_dir_all(at("dir/deep/er")).expect("directory");
    std::fs::create_dir(at("empty")).expect("directory");
    std::fs::write(at("dir/file"), "content").expect("file");
    std::fs::write(at("dir/deep/er/big"), vec![7; 1_000_000]).expect("file");
    std::fs::write(at("dir-after"), "").expect("file");
    std::fs::write(at("zero"), vec![0; 300_000]).expect("file");
    std::fs::write(at("suid"), "#!").expect("file");
    std::os::unix::fs::chown(at("suid"), Some(12), Some(34)).expect("owner");
    std::fs::set_permissions(at("suid"), PermissionsExt::from_mode(0o6755)).expect("mode");
    std::fs::set_permissions(at("empty"), PermissionsExt::from_mode(0o1555)).expect("mode");
    symlink("../outside", at("dir/link")).expect("link");
    std::fs::hard_link(at("dir/file"), at("hard")).expect("link");
    std::fs::write(at("unicode-é"), "é").expect("file");
    for (name, kind, device) in [
        ("fifo", rustix::fs::FileType::Fifo, 0),
        ("null", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
    ] {
        rustix::fs::mknodat(rustix::fs::CWD, at(name), kind, 0o620.into(), device).expect("node");
    }
    let old = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    for name in ["dir/file", "dir/link", "fifo", "empty", "dir/deep"] {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, at(name), &times, flags).expect("time");
    }
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_everything_once() {
    let source = sample();
    let dest = tempfile::tempdir().expect("temporary directory");
    let asked = sync(source.path(), dest.path(), ReceiveOptions::default()).await.expect("works");
    assert_same(source.path(), dest.path());
    assert_eq!(asked, 6);
    let zero = dest.path().join("zero").metadata().expect("is there");
    assert_eq!(zero.blocks(), 0, "holes stay holes");
    // Nothing changed, nothing is sent; one file changed, one is.
    let options = ReceiveOptions::default;
    assert_eq!(sync(source.path(), dest.path(), options()).await.expect("works"), 0);
    std::fs::write(source.path().join("dir/deep/new"), "new").expect("file");
    assert_eq!(sync(source.path(), dest.path(), options()).await.expect("works"), 1);
    assert_same(source.path(), dest.path());
    std::fs::write(source.path().join("dir/deep/new"), "longer").expect("file");
    assert_eq!(sync(source.path(), dest.path(), options()).await.expect("works"), 1);
    assert_same(source.path(), dest.path());
    let all = ReceiveOptions { differ: Differ::None, ..options() };
    assert_eq!(sync(source.path(), dest.path(), all).await.expect("works"), 7);
    assert_same(source.path(), dest.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_what_is_there() {
    let source = sample();
    let dest = tempfile::tempdir().expect("temporary directory");
    let at = |path: &str| dest.path().join(path);
    let canary = tempfile::tempdir().expect("temporary directory");
    std::fs::write(canary.path().join("file"), "canary").expect("file");
    std::fs::write(at("dir"), "a file").expect("file");
    std::fs::create_dir_all(at("zero/with/entries")).expect("directory");
    std::fs::create_dir_all(at("hard/x")).expect("directory");
    std::fs::create_dir_all(at("fifo/x")).expect("directory");
    symlink(canary.path().join("file"), at("suid")).expect("link");
    symlink(canary.path(), at("empty")).expect("link");
    std::fs::write(at("extra"), "x").expect("file");
    sync(source.path(), dest.path(), ReceiveOptions::default()).await.expect("works");
    assert_same(source.path(), dest.path());
    assert_eq!(std::fs::read(canary.path().join("file")).expect("reads"), b"canary");
}

#[tokio::test(flavor = "multi_thread")]
async fn merges() {
    let source = sample();
    let dest = tempfile::tempdir().expect("temporary directory");
    let at = |path: &str| dest.path().join(path);
    std::fs::create_dir_all(at("dir/kept")).expect("directory");
    std::fs::write(at("extra"), "x").expect("file");
    std::fs::write(at("dir/file"), "old").expect("file");
    std::fs::create_dir_all(at("suid/x")).expect("directory");
    std::fs::write(at("empty"), "a file").expect("file");
    symlink("nowhere", at("dir/link")).expect("link");
    let options = ReceiveOptions {
        merge: true,
        filter: Some(Arc::new(|_, stat: &mut Stat| {
            stat.uid = 5;
            true
        })),
        ..ReceiveOptions::default()
    };
    sync(source.path(), dest.path(), options).await.expect("works");
    assert!(at("dir/kept").is_dir() && at("extra").is_file());
    assert_eq!(std::fs::read(at("dir/file")).expect("reads"), b"content");
    assert_eq!(std::fs::read_link(at("dir/link")).expect("is a link").to_str(), Some("../outside"));
    let suid = at("suid").metadata().expect("is there");
    assert_eq!((suid.uid(), suid.gid(), suid.mode() & 0o7777), (5, 34, 0o6755));
    assert_eq!(at("hard").metadata().expect("is there").ino(), at("dir/file").metadata().expect("is").ino());
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_only() {
    let source = sample();
    let dest = tempfile::tempdir().expect("temporary directory");
    let options = ReceiveOptions {
        metadata_only: Some(Arc::new(|path, _| path == "dir/deep/er/big")),
        ..ReceiveOptions::default()
    };
    assert_eq!(sync(source.path(), dest.path(), options).await.expect("works"), 1);
    let paths: Vec<_> = listing(dest.path()).into_iter().map(|stat| stat.path).collect();
    assert_eq!(paths, [METADATA_FILE, "dir", "dir/deep", "dir/deep/er", "dir/deep/er/big"]);
    let metadata = std::fs::read(dest.path().join(METADATA_FILE)).expect("reads");
    let mut rest = metadata.as_slice();
    let mut stats: Vec<Stat> = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let (message, after) = after.split_at(u32::from_le_bytes(*len) as usize);
        stats.push(prost::Message::decode(message).expect("a stat"));
        rest = after;
    }
    assert_eq!(stats, listing(source.path()));
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, String>>>);

struct Hasher(sha2::Sha256);

impl ContentHasher for Hasher {
    fn update(&mut self, data: &[u8]) {
        sha2::Digest::update(&mut self.0, data);
    }
    fn finish(self: Box<Self>) -> Digest {
        Digest::from_sha256(sha2::Digest::finalize(self.0).into())
    }
}

impl ContentHook for Recorder {
    fn hasher(&mut self, _: &Stat) -> Result<Box<dyn ContentHasher>, buildkit_errdefs::BoxError> {
        Ok(Box::new(Hasher(<sha2::Sha256 as sha2::Digest>::new())))
    }
    fn change(&mut self, change: Change<'_>) -> Result<(), buildkit_errdefs::BoxError> {
        let (path, what) = match change {
            Change::Delete { path } => (path, "deleted".to_owned()),
            Change::Add { stat, digest } => (stat.path.as_str(), digest.to_string()),
        };
        self.0.lock().insert(path.to_owned(), what);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_what_arrives() {
    let source = sample();
    let dest = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir_all(dest.path().join("gone/below")).expect("directory");
    let recorder = Recorder::default();
    let options = ReceiveOptions { hook: Some(Box::new(recorder.clone())), ..ReceiveOptions::default() };
    sync(source.path(), dest.path(), options).await.expect("works");
    let seen = recorder.0.lock();
    let mut paths: Vec<_> = listing(source.path()).into_iter().map(|stat| stat.path).collect();
    paths.push("gone".to_owned());
    paths.sort();
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), paths);
    assert_eq!(seen["gone"], "deleted");
    assert_eq!(seen["dir/deep/er/big"], Digest::sha256(vec![7; 1_000_000]).to_string());
    assert_eq!(seen["zero"], Digest::sha256(vec![0; 300_000]).to_string());
    assert_eq!(seen["dir"], Digest::sha256(b"").to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_17_hostile_streams_are_refused() {
    let outer = tempfile::tempdir().expect("temporary directory");
    let link = |path: &str, target: &str| Stat {
        path: path.to_owned(),
        mode: mode::SYMLINK | 0o777,
        linkname: target.to_owned(),
        ..Stat::default()
    };
    let hard = |path: &str, target: &str| Stat { linkname: target.to_owned(), ..file(path) };
    let cases: Vec<(&str, Vec<Packet>)> = vec![
        ("parent", vec![stat_packet(dir("..")), stat_packet(file("../x"))]),
        ("escape", vec![stat_packet(file("../x"))]),
        ("absolute", vec![stat_packet(file("/x"))]),
        ("dot", vec![stat_packet(file("."))]),
        ("empty", vec![stat_packet(file(""))]),
        ("below a link", vec![stat_packet(link("a", "..")), stat_packet(file("a/x")), last_stat()]),
        ("below a file", vec![stat_packet(file("a")), stat_packet(file("a/x"))]),
        ("no parent", vec![stat_packet(file("a/x"))]),
        ("deep", (1..10_000).map(|depth| stat_packet(dir(&vec!["d"; depth].join("/")))).collect()),
        ("deep at once", vec![stat_packet(dir(&vec!["d"; 10_000].join("/")))]),
        ("below a backslash", vec![stat_packet(file("..\\")), stat_packet(file("..\\/../x"))]),
        ("link to unknown", vec![stat_packet(hard("a", "../canary")), last_stat()]),
        ("link to link", vec![stat_packet(link("a", "x")), stat_packet(hard("b", "a")), last_stat()]),
        ("data nobody asked for", vec![stat_packet(dir("a")), data(0, b"x")]),
        ("data of nothing", vec![data(7, b"x")]),
        ("data after the end", vec![stat_packet(file("a")), data(0, b""), data(0, b"x")]),
        ("early fin", vec![stat_packet(file("a")), last_stat(), fin()]),
        ("stat after the last", vec![last_stat(), stat_packet(file("a"))]),
        ("cut off", vec![stat_packet(file("a")), last_stat()]),
        ("no packets", vec![]),
        ("unknown type", vec![Packet { r#type: 99, ..Packet::default() }]),
        ("request", vec![Packet { r#type: PacketType::PacketReq as i32, ..Packet::default() }]),
    ];
    std::fs::write(outer.path().join("canary"), "canary").expect("file");
    for (name, packets) in cases {
        let dest = outer.path().join("dest");
        std::fs::create_dir(&dest).expect("directory");
        assert!(feed(&dest, packets).await.is_err(), "{name}");
        std::fs::remove_dir_all(&dest).expect("removes");
        let left: Vec<_> = std::fs::read_dir(outer.path()).expect("reads").collect();
        assert_eq!(left.len(), 1, "{name}");
    }
    assert_eq!(std::fs::read(outer.path().join("canary")).expect("reads"), b"canary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_put_there_meanwhile_is_not_followed() {
    let outer = tempfile::tempdir().expect("temporary directory");
    let dest = outer.path().join("dest");
    std::fs::create_dir_all(dest.join("a")).expect("directory");
    std::fs::create_dir(outer.path().join("secret")).expect("directory");
    let (to_sender, mut requests) = mpsc::unbounded_channel();
    let (to_receiver, from_sender) = mpsc::channel(16);
    let mut packets = ReceiverStream::new(from_sender).map(Ok::<_, Never>);
    let root = Root::open(&dest).expect("opens");
    let receiving = buildkit_util_appcontext::spawn(async move {
        receive(root, &mut packets, to_sender, ReceiveOptions::default()).await
    });
    for packet in [stat_packet(dir("a")), stat_packet(dir("a/b")), stat_packet(file("a/b/x"))] {
        to_receiver.send(packet).await.expect("receives");
    }
    requests.recv().await.expect("asks");
    std::fs::remove_dir_all(dest.join("a")).expect("removes");
    symlink("../secret", dest.join("a")).expect("link");
    std::fs::create_dir(outer.path().join("secret/b")).expect("directory");
    for packet in [data(2, b"x"), data(2, b""), last_stat(), fin()] {
        let _ = to_receiver.send(packet).await;
    }
    drop(to_receiver);
    assert!(receiving.await.expect("does not panic").is_err());
    assert_eq!(std::fs::read_dir(outer.path().join("secret/b")).expect("reads").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_learn_of_errors() {
    let source = tempfile::tempdir().expect("temporary directory");
    let fs: Arc<dyn FileSystem> = Arc::new(DirFs::open(source.path()).expect("opens"));
    let (to_receiver, _packets) = mpsc::channel(16);
    let bad = Packet { r#type: PacketType::PacketReq as i32, id: 5, ..Packet::default() };
    let mut requests = futures::stream::iter([Ok::<_, Never>(bad)]);
    let error = send(fs.clone(), &mut requests, to_receiver, SendOptions::default()).await;
    assert_eq!(error.expect_err("no such file").to_string(), "invalid file id 5");
    let (to_receiver, _packets) = mpsc::channel(16);
    let failed = Packet {
        r#type: PacketType::PacketErr as i32,
        data: b"disk is full"[..].into(),
        ..Packet::default()
    };
    let mut requests = futures::stream::iter([Ok::<_, Never>(failed.clone())]);
    let error = send(fs, &mut requests, to_receiver, SendOptions::default()).await;
    assert_eq!(error.expect_err("failed").to_string(), "error from receiver: disk is full");
    let dest = tempfile::tempdir().expect("temporary directory");
    let error = feed(dest.path(), vec![failed]).await.expect_err("failed");
    assert_eq!(error.to_string(), "error from sender: disk is full");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_open_at_a_time() {
    let dest = tempfile::tempdir().expect("temporary directory");
    let mut packets: Vec<_> = (0..500).map(|i| stat_packet(file(&format!("f{i:03}")))).collect();
    packets.push(last_stat());
    for part in [&b"one "[..], b"two "] {
        packets.extend((0..500).map(|i| data(i, part)));
    }
    packets.extend((0..500).map(|i| data(i, b"")));
    packets.push(fin());
    feed(dest.path(), packets).await.expect("works");
    for i in 0..500 {
        let content = std::fs::read(dest.path().join(format!("f{i:03}"))).expect("reads");
        assert_eq!(content, b"one two ");
    }
}
