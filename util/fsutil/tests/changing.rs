//! A4-18: files that change between the telling of their attributes and the sending of their content.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil::types::packet::PacketType;
use buildkit_util_fsutil::types::{Packet, Stat};
use buildkit_util_fsutil::{
    Change, ContentHasher, ContentHook, DirFs, Error, FileSystem, ReceiveOptions, SendOptions, Walk, receive,
    send,
};
use buildkit_util_system::Root;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};

type Never = std::convert::Infallible;

/// A directory that somebody changes just before a file is opened.
struct Racing {
    inner: DirFs,
    change: Box<dyn Fn() + Send + Sync>,
}

impl FileSystem for Racing {
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, Error> {
        self.inner.walk(target)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        (self.change)();
        self.inner.open(path)
    }
}

/// Digests with the size that was told, as content digests have it.
#[derive(Clone, Default)]
struct Digests(Arc<Mutex<Vec<String>>>);

struct Hasher(Vec<u8>);

impl ContentHasher for Hasher {
    fn update(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    fn finish(self: Box<Self>) -> Digest {
        Digest::sha256(self.0)
    }
}

impl ContentHook for Digests {
    fn hasher(&mut self, stat: &Stat) -> Result<Box<dyn ContentHasher>, buildkit_errdefs::BoxError> {
        Ok(Box::new(Hasher(format!("{} bytes:", stat.size).into_bytes())))
    }

    fn change(&mut self, change: Change<'_>) -> Result<(), buildkit_errdefs::BoxError> {
        if let Change::Add { digest, .. } = change {
            self.0.lock().push(digest.to_string());
        }
        Ok(())
    }
}

/// Sends a directory with one file `f` of ten bytes that `change` has its way with; gives the results of both
/// ends and the file that arrived.
async fn race(change: impl Fn(&Path) + Send + Sync + 'static) -> [Result<String, String>; 2] {
    let (source, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file: PathBuf = source.path().join("f");
    std::fs::write(&file, "0123456789").unwrap();
    let inner = DirFs::open(source.path()).unwrap();
    let fs = Arc::new(Racing { inner, change: Box::new(move || change(&file)) });
    let (to_receiver, from_sender) = mpsc::channel(64);
    let (to_sender, from_receiver) = mpsc::unbounded_channel();
    let mut requests = UnboundedReceiverStream::new(from_receiver).map(Ok::<_, Never>);
    let mut packets = ReceiverStream::new(from_sender).map(Ok::<_, Never>);
    let root = Root::open(dest.path()).unwrap();
    let (sent, received) = tokio::join!(
        send(fs, &mut requests, to_receiver, SendOptions::default()),
        receive(root, &mut packets, to_sender, ReceiveOptions::default()),
    );
    let content = || std::fs::read_to_string(dest.path().join("f")).unwrap_or_default();
    [sent.map(|()| String::new()), received.map(|()| content())].map(|end| end.map_err(|e| e.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_18_what_is_sent_is_what_was_told_or_an_error() {
    let grown = race(|file| std::fs::write(file, "0123456789, and more").unwrap()).await;
    assert_eq!(grown[1].as_deref(), Ok("0123456789"), "as much as was told");
    let replaced = race(|file| {
        std::fs::write(file.with_extension("new"), "9876543210").unwrap();
        std::fs::rename(file.with_extension("new"), file).unwrap();
    });
    assert_eq!(replaced.await[1].as_deref(), Ok("9876543210"), "all of one version");

    let shrunk = race(|file| std::fs::write(file, "0123").unwrap()).await;
    let gone = race(|file| std::fs::remove_file(file).unwrap()).await;
    let linked = race(|file| {
        std::fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", file).unwrap();
    });
    let directory = race(|file| {
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
    });
    let pipe = race(|file| {
        std::fs::remove_file(file).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    });
    for (what, ends) in [
        ("shrunk", shrunk),
        ("gone", gone),
        ("a link", linked.await),
        ("a directory", directory.await),
        ("a pipe", pipe.await),
    ] {
        for end in ends {
            let error = end.expect_err(what);
            assert!(error.contains("`f` changed while it was sent"), "{what}: {error}");
        }
    }
}

/// What senders of others do: they send what they can read now.
#[tokio::test(flavor = "multi_thread")]
async fn a4_18_digests_are_of_what_is_stored() {
    let feed = |content: &'static [u8]| async move {
        let dest = tempfile::tempdir().unwrap();
        let packet = |kind: PacketType| Packet { r#type: kind as i32, ..Packet::default() };
        let stat = Stat { path: "f".to_owned(), mode: 0o644, size: 4, ..Stat::default() };
        let mut packets = vec![
            Packet { stat: Some(stat), ..packet(PacketType::PacketStat) },
            packet(PacketType::PacketStat),
        ];
        if !content.is_empty() {
            packets.push(Packet { data: content.into(), ..packet(PacketType::PacketData) });
        }
        packets.extend([packet(PacketType::PacketData), packet(PacketType::PacketFin)]);
        let (outgoing, _requests) = mpsc::unbounded_channel();
        let digests = Digests::default();
        let options = ReceiveOptions { hook: Some(Box::new(digests.clone())), ..ReceiveOptions::default() };
        let mut incoming = tokio_stream::iter(packets.into_iter().map(Ok::<_, Never>));
        let result = receive(Root::open(dest.path()).unwrap(), &mut incoming, outgoing, options).await;
        let stored = std::fs::read(dest.path().join("f")).unwrap_or_default();
        let seen = digests.0.lock().clone();
        (result.map_err(|error| error.to_string()), stored, seen)
    };
    let digest = |text: &str| vec![Digest::sha256(text).to_string()];
    assert_eq!(feed(b"same").await, (Ok(()), b"same".to_vec(), digest("4 bytes:same")));
    assert_eq!(feed(b"grown").await, (Ok(()), b"grown".to_vec(), digest("5 bytes:grown")));
    for short in [&b"sho"[..], b""] {
        let (result, _, seen) = feed(short).await;
        assert!(result.unwrap_err().contains("changed while it was sent"));
        assert!(seen.is_empty(), "no digest for what is not a file of anybody");
    }
}
