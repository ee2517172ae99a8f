//! Walks and transfers recorded from the Go implementation; see the README beside the vectors.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use buildkit_util_fsutil::types::Packet;
use buildkit_util_fsutil::types::packet::PacketType;
use buildkit_util_fsutil::{
    DirFs, FileSystem, FilterFs, FilterOptions, HardlinkReset, ReceiveOptions, SendOptions, Walk,
    follow_links, mode, receive, send, walk_all,
};
use buildkit_util_system::Root;
use futures::StreamExt;
use prost::Message;
use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};

type Never = std::convert::Infallible;

fn vectors<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    serde_json::from_str(&text).expect("well formed")
}

#[derive(Deserialize)]
#[serde(default)]
struct Node {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    mode: String,
    uid: u32,
    gid: u32,
    content: String,
    repeat: usize,
    mtime: i64,
    target: String,
    major: u32,
    minor: u32,
    xattrs: BTreeMap<String, String>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            path: String::new(),
            kind: String::new(),
            mode: "0".to_owned(),
            uid: 0,
            gid: 0,
            content: String::new(),
            repeat: 1,
            mtime: 1_700_000_000_000_000_000,
            target: String::new(),
            major: 0,
            minor: 0,
            xattrs: BTreeMap::new(),
        }
    }
}

/// Makes a tree on disk.
fn make(nodes: &[Node]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temporary directory");
    for node in nodes {
        let at = root.path().join(&node.path);
        let bits = u32::from_str_radix(&node.mode, 8).expect("octal");
        let special = |kind, device| {
            rustix::fs::mknodat(CWD, &at, kind, bits.into(), device).expect("node");
        };
        match node.kind.as_str() {
            "dir" => std::fs::create_dir(&at).expect("directory"),
            "file" => std::fs::write(&at, node.content.repeat(node.repeat)).expect("file"),
            "symlink" => symlink(&node.target, &at).expect("link"),
            "hardlink" => {
                std::fs::hard_link(root.path().join(&node.target), &at).expect("link");
                continue;
            }
            "fifo" => special(FileType::Fifo, 0),
            "socket" => special(FileType::Socket, 0),
            "char" => special(FileType::CharacterDevice, rustix::fs::makedev(node.major, node.minor)),
            other => panic!("unknown type {other}"),
        }
        std::os::unix::fs::lchown(&at, Some(node.uid), Some(node.gid)).expect("needs root");
        if node.kind != "symlink" {
            std::fs::set_permissions(&at, PermissionsExt::from_mode(bits)).expect("mode");
        }
        for (name, value) in &node.xattrs {
            let value = hex::decode(value).expect("hex");
            rustix::fs::setxattr(&at, name.as_str(), &value, rustix::fs::XattrFlags::empty())
                .expect("the temporary directory needs user attributes");
        }
    }
    for node in nodes {
        let time =
            Timespec { tv_sec: node.mtime / 1_000_000_000, tv_nsec: (node.mtime % 1_000_000_000) as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        let at = root.path().join(&node.path);
        rustix::fs::utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW).expect("time");
    }
    root
}

fn open(dir: &tempfile::TempDir) -> Arc<dyn FileSystem> {
    Arc::new(DirFs::open(dir.path()).expect("opens"))
}

#[derive(Deserialize)]
struct Walks {
    tree: Vec<Node>,
    cases: Vec<WalkCase>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct WalkCase {
    target: String,
    include: Vec<String>,
    exclude: Vec<String>,
    follow: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    hardlinks: Vec<(String, String)>,
    error: String,
}

#[test]
fn walks() {
    let vectors: Walks = vectors("walks.json");
    let dir = make(&vectors.tree);
    let fs = open(&dir);
    assert!(vectors.cases.len() > 20);
    for case in vectors.cases {
        let shown = format!("{:?} {:?} {:?} {}", case.include, case.exclude, case.follow, case.target);
        let options = FilterOptions {
            include: case.include,
            exclude: case.exclude,
            follow_paths: case.follow,
            map: None,
        };
        let filtered = match FilterFs::new(fs.clone(), &options) {
            Ok(filtered) => filtered,
            Err(error) => {
                assert_eq!(error.to_string(), case.error, "{shown}");
                continue;
            }
        };
        assert_eq!(case.error, "", "{shown}");
        let mut walk: Box<dyn Walk> = filtered.walk(&case.target).expect("walks");
        let mut reset = HardlinkReset::default();
        let (mut paths, mut links) = (Vec::new(), Vec::new());
        while walk.next().expect("reads").is_some() {
            let mut stat = walk.stat().expect("reads");
            reset.apply(&mut stat);
            if mode::is_regular(stat.mode) && !stat.linkname.is_empty() {
                links.push((stat.path.clone(), stat.linkname.clone()));
            }
            paths.push(stat.path);
        }
        assert_eq!(paths, case.paths.unwrap_or_default(), "{shown}");
        if case.target.is_empty() {
            assert_eq!(links, case.hardlinks, "{shown}");
        }
    }
}

#[derive(Deserialize)]
struct Follows {
    tree: Vec<Node>,
    cases: Vec<FollowCase>,
}

#[derive(Deserialize)]
struct FollowCase {
    paths: Vec<String>,
    result: Option<Vec<String>>,
}

#[test]
fn followed_links() {
    let vectors: Follows = vectors("followlinks.json");
    let dir = make(&vectors.tree);
    let fs = open(&dir);
    for case in vectors.cases {
        let found = follow_links(fs.as_ref(), &case.paths).expect("follows");
        assert_eq!(found, case.result, "{:?}", case.paths);
    }
}

#[derive(Deserialize)]
struct Broken {
    name: String,
    packets: Vec<String>,
    error: String,
}

fn packet(hex: &str) -> Packet {
    let bytes = hex::decode(hex).expect("hex");
    Packet::decode(bytes.as_slice()).expect("a packet")
}

#[tokio::test]
async fn broken_senders() {
    let vectors: Vec<Broken> = vectors("receive-errors.json");
    for case in vectors {
        let dest = tempfile::tempdir().expect("temporary directory");
        let (outgoing, mut replies) = mpsc::unbounded_channel();
        let packets: Vec<_> = case.packets.iter().map(|hex| Ok::<_, Never>(packet(hex))).collect();
        let mut incoming = futures::stream::iter(packets);
        let root = Root::open(dest.path()).expect("opens");
        let error =
            receive(root, &mut incoming, outgoing, ReceiveOptions::default()).await.expect_err(&case.name);
        if case.name == "unknown type" {
            // Upstream overlooks what it does not know.
            assert_eq!(error.to_string(), "unknown packet type 77");
            continue;
        }
        assert_eq!(error.to_string(), case.error, "{}", case.name);
        let mut last = None;
        while let Some(reply) = replies.recv().await {
            last = Some(reply);
        }
        let last = last.expect("replies");
        assert_eq!(last.r#type, PacketType::PacketErr as i32, "{}", case.name);
        assert_eq!(String::from_utf8_lossy(&last.data), case.error, "{}", case.name);
    }
}

#[derive(Deserialize)]
struct Transfer {
    name: String,
    tree: Vec<Node>,
    #[serde(default)]
    dest: Vec<Node>,
    packets: Vec<String>,
    result: Vec<String>,
}

/// A mode as Go prints it.
fn mode_text(bits: u32) -> String {
    let mut text: String = "dalTLDpSugct?"
        .chars()
        .enumerate()
        .filter(|(at, _)| bits & (1 << (31 - at)) != 0)
        .map(|(_, letter)| letter)
        .collect();
    if text.is_empty() {
        text.push('-');
    }
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if bits & (1 << (8 - at)) != 0 { letter } else { '-' });
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers() {
    let vectors: Vec<Transfer> = vectors("wire.json");
    let mut done = 0;
    for case in vectors {
        // The other ones depend on filters.
        if !["full", "update", "metadata only"].contains(&case.name.as_str()) {
            continue;
        }
        done += 1;
        let (source, dest) = (make(&case.tree), make(&case.dest));
        let (to_receiver, from_sender) = mpsc::channel(64);
        let (to_sender, from_receiver) = mpsc::unbounded_channel();
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let record = |who: &'static str| {
            let seen = seen.clone();
            move |packet: Packet| {
                let is_data = packet.r#type == PacketType::PacketData as i32;
                if !is_data {
                    let text = format!("{who} {}", hex::encode(packet.encode_to_vec()));
                    seen.lock().push(text);
                }
                Ok::<_, Never>(packet)
            }
        };
        let mut requests = UnboundedReceiverStream::new(from_receiver).map(record("receiver"));
        let mut packets = ReceiverStream::new(from_sender).map(record("sender"));
        let root = Root::open(dest.path()).expect("opens");
        let mut options = ReceiveOptions::default();
        if case.name == "metadata only" {
            options.metadata_only = Some(Arc::new(|path, _| path == "dir/f"));
        }
        let (sent, received) = tokio::join!(
            send(open(&source), &mut requests, to_receiver, SendOptions::default()),
            receive(root, &mut packets, to_sender, options),
        );
        received.expect("receives");
        sent.expect("sends");
        // Data and requests come in any order; attributes do not.
        let is_stat = |text: &&String| text.starts_with("sender 12") || *text == "sender ";
        let only = |list: &[String], keep: &dyn Fn(&&String) -> bool| {
            list.iter().filter(|text| keep(text)).cloned().collect::<Vec<_>>()
        };
        let seen = seen.lock().clone();
        assert_eq!(only(&seen, &is_stat), only(&case.packets, &is_stat), "{}", case.name);
        let requests = |list: &[String]| {
            let mut requests = only(list, &|text| text.starts_with("receiver "));
            requests.sort();
            requests
        };
        assert_eq!(requests(&seen), requests(&case.packets), "{}", case.name);
        let mut result = Vec::new();
        let fs = open(&dest);
        walk_all(fs.as_ref(), |mut stat| {
            if stat.path == ".fsutil-metadata" {
                let data = std::fs::read(dest.path().join(&stat.path)).expect("reads");
                result.push(format!("{} {}", stat.path, hex::encode(data)));
                return Ok(());
            }
            if mode::is_regular(stat.mode) {
                stat.linkname.clear();
            }
            result.push(format!(
                "{} mode={} uid={} gid={} size={} mtime={} link={} dev={}:{} xattrs={}",
                stat.path,
                mode_text(stat.mode),
                stat.uid,
                stat.gid,
                stat.size,
                stat.mod_time,
                stat.linkname,
                stat.devmajor,
                stat.devminor,
                stat.xattrs.len()
            ));
            Ok(())
        })
        .expect("walks");
        assert_eq!(result, case.result, "{}", case.name);
    }
    assert_eq!(done, 3);
}
