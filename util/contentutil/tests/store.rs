//! All stores keep the contract, and files survive what they must.

use std::io::{Read, Write};

use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{
    ContentStore, Error, Expected, LayoutStore, LocalStore, MemoryStore, testsuite,
};

#[test]
fn stores_conform() {
    testsuite::run(&MemoryStore::default());
    let dir = tempfile::tempdir().expect("temp dir");
    let store = LocalStore::open(dir.path()).expect("open");
    testsuite::run(&store);
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).expect("ingest").count(), 0);
}

fn put(store: &LocalStore, content: &[u8]) -> Digest {
    let mut ingester = store.ingest(Expected::default()).expect("ingest");
    ingester.write_all(content).expect("write");
    ingester.commit().expect("commit").digest
}

#[test]
fn a_restart_removes_halves_and_finds_damage() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = LocalStore::open(dir.path()).expect("open");
    let (good, bad) = (put(&store, b"good"), put(&store, b"bad!"));
    let mut half = store.ingest(Expected::default()).expect("ingest");
    half.write_all(b"half").expect("write");
    let path = store.path(&bad).expect("path");
    assert!(path.ends_with(format!("blobs/sha256/{}", bad.encoded())));
    std::fs::write(&path, b"BAD!").expect("damage");
    // A killed process closes nothing.
    std::mem::forget((half, store));

    let store = LocalStore::open(dir.path()).expect("open");
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).expect("ingest").count(), 0);
    assert!(matches!(store.open(&bad, Some(4)), Err(Error::Damaged(_))));
    assert!(matches!(store.open(&bad, Some(4)), Err(Error::NotFound(_))));
    let mut text = String::new();
    store.open(&good, Some(4)).expect("open").read_to_string(&mut text).expect("read");
    assert_eq!(text, "good");
}

/// Puts another file in the place of a blob's.
fn damage(store: &LocalStore, digest: &Digest, change: impl FnOnce(&mut Vec<u8>)) {
    let path = store.path(digest).expect("path");
    let mut content = std::fs::read(&path).expect("blob");
    change(&mut content);
    let other = store.root().join("damaged");
    std::fs::write(&other, content).expect("write");
    std::fs::rename(&other, &path).expect("rename");
}

#[test]
fn b_10_damage_is_found_at_the_next_use() {
    let dir = tempfile::tempdir().expect("temp dir");
    let content = vec![b'x'; 1 << 20];
    type Change = fn(&mut Vec<u8>);
    let damages: [(&str, Change); 4] = [
        ("one bit", |content| content[700_000] ^= 0x10),
        ("cut", |content| content.truncate(content.len() / 2)),
        ("zeros", |content| content[4096..8192].fill(0)),
        ("nothing left", Vec::clear),
    ];
    for (what, change) in damages {
        for at_rest in [true, false] {
            let mut store = LocalStore::open(dir.path()).expect("open");
            let digest = put(&store, &content);
            assert!(store.open(&digest, None).is_ok());
            if at_rest {
                drop(store);
                store = LocalStore::open(dir.path()).expect("open");
            }
            damage(&store, &digest, change);
            assert!(matches!(store.open(&digest, None), Err(Error::Damaged(_))), "{what}, {at_rest}");
            assert!(matches!(store.open(&digest, None), Err(Error::NotFound(_))), "{what}, {at_rest}");
            // What comes anew is believed.
            put(&store, &content);
            let mut read = Vec::new();
            let mut opened = store.open(&digest, Some(content.len() as u64)).expect("open");
            opened.read_to_end(&mut read).expect("read");
            assert!(read == content, "{what}, {at_rest}");
        }
    }
}

#[test]
fn directories_of_others_are_left_as_they_are() {
    let dir = tempfile::tempdir().expect("temp dir");
    let root = dir.path().join("layout");
    let store = LayoutStore::new(&root);
    let absent = Digest::sha256("absent");
    assert!(matches!(store.info(&absent), Err(Error::NotFound(_))));
    assert!(store.list().expect("list").is_empty());
    assert!(!root.exists(), "reading makes nothing");
    testsuite::run_without_damage(&store);
    assert_eq!(std::fs::read_dir(root.join("ingest")).expect("ingest").count(), 0);

    // A link, another algorithm, and what is no blob.
    std::fs::write(dir.path().join("elsewhere"), "linked").expect("file");
    let linked = Digest::sha256("linked");
    let blobs = root.join("blobs/sha256");
    std::os::unix::fs::symlink("../../../elsewhere", blobs.join(linked.encoded())).expect("link");
    let long = Digest::from_hash("sha512", &[7; 64]);
    std::fs::create_dir(root.join("blobs/sha512")).expect("directory");
    std::fs::write(root.join("blobs/sha512").join(long.encoded()), "long").expect("file");
    std::fs::write(blobs.join("README"), "x").expect("file");
    let directory = Digest::sha256("directory");
    std::fs::create_dir(blobs.join(directory.encoded())).expect("directory");
    let mut listed: Vec<_> = store.list().expect("list").into_iter().map(|info| info.digest).collect();
    listed.sort();
    assert_eq!(listed, [linked.clone(), long.clone()]);
    assert_eq!(store.info(&linked).expect("info").size, 6);
    assert!(store.open(&long, Some(4)).is_ok());
    assert!(matches!(store.open(&directory, None), Err(Error::NotFound(_))));

    // One of another size is refused, not removed.
    assert!(matches!(store.open(&linked, Some(4)), Err(Error::Mismatch { what: "size", .. })));
    assert!(store.open(&linked, Some(6)).is_ok());
    let strange = Digest::parse("md5:d41d8cd98f00b204e9800998ecf8427e").expect("has the form of a digest");
    assert!(matches!(store.info(&strange), Err(Error::Algorithm(_))));
}

#[test]
fn leftovers_in_directories_of_others_go() {
    let dir = tempfile::tempdir().expect("temp dir");
    let ingests = dir.path().join("ingest");
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(&ingests)
            .expect("ingest")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    };
    let mut written = LayoutStore::new(dir.path()).ingest(Expected::default()).expect("ingest");
    let [in_use] = &names()[..] else { panic!("one file: {:?}", names()) };
    for name in ["blob-1-0-old", "blob-1-0-new", "other"] {
        std::fs::write(ingests.join(name), "x").expect("file");
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for name in ["blob-1-0-old", "other", in_use] {
        std::fs::File::open(ingests.join(name)).expect("file").set_modified(old).expect("time");
    }
    drop(LayoutStore::new(dir.path()).ingest(Expected::default()).expect("ingest"));
    assert_eq!(names(), ["blob-1-0-new", in_use, "other"]);
    written.write_all(b"x").expect("write");
    written.commit().expect("commit");
}
