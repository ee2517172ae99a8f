//! What the sled store promises beyond the contract: persistence, damage, kills, bounded size.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use buildkit_cache_metadata::{
    Batch, Bucket, Error, MemoryStore, MetadataStore, SledOptions, SledStore, probe,
};
use buildkit_errdefs::{Classify, Kind};
use proptest::prelude::*;

const A: Bucket = Bucket::new("a");
const B: Bucket = Bucket::new("b");

fn open(root: &Path) -> SledStore {
    SledStore::open(root, SledOptions::default()).expect("open")
}

fn put(store: &SledStore, bucket: Bucket, key: &str, value: impl AsRef<[u8]>) {
    let mut batch = Batch::new();
    batch.put(bucket, key.as_bytes().to_vec(), value.as_ref().to_vec());
    store.apply(batch).expect("apply");
}

/// Names in the directory of the store that start so.
fn names(root: &Path, prefix: &str) -> Vec<String> {
    std::fs::read_dir(root)
        .expect("read dir")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

#[test]
fn content_survives_reopening() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = open(dir.path());
    put(&store, A, "k", "v");
    put(&store, B, "k", vec![9; 2 << 20]);
    put(&store, A, "gone", "v");
    let mut batch = Batch::new();
    batch.delete(A, &b"gone"[..]);
    store.apply(batch).expect("apply");
    drop(store);
    assert_eq!(names(dir.path(), "clean").len(), 1);
    let store = open(dir.path());
    assert_eq!(names(dir.path(), "clean").len(), 0);
    assert_eq!(store.get(A, b"k").expect("get").as_deref(), Some(&b"v"[..]));
    assert_eq!(store.get(B, b"k").expect("get").map(|value| value.len()), Some(2 << 20));
    assert_eq!(store.range(A, b"").expect("range").len(), 1);
    assert!(names(dir.path(), "db.broken").is_empty());
}

#[test]
fn a_second_opener_is_told() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = open(dir.path());
    let error = SledStore::open(dir.path(), SledOptions::default()).err().expect("locked");
    assert!(matches!(error, Error::InUse { .. }));
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    assert!(error.to_string().ends_with("another buildkitd uses this root"), "{error}");
    drop(store);
    open(dir.path());
}

/// Fills a store with `count` rows of about 300 bytes and closes it.
fn fill(root: &Path, count: usize) {
    let store = open(root);
    for number in 0..count {
        put(&store, A, &format!("{number:08}"), format!("{number:0300}"));
    }
    store.flush().expect("flush");
}

/// Opens after damage: it must work, whatever it holds, and what it holds must be right.
fn check_after_damage(root: &Path, what: &str) {
    let options = SledOptions { open_limit: Duration::from_secs(15), ..SledOptions::default() };
    let store = SledStore::open(root, options.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    for entry in store.range(A, b"").expect("range") {
        let key = String::from_utf8(entry.key.to_vec()).expect("text");
        let number: usize = key.parse().expect("number");
        assert_eq!(entry.value, format!("{number:0300}"), "{what}: value of {key}");
    }
    put(&store, B, "after", "damage");
    store.flush().unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(store);
    let store = SledStore::open(root, options).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(store.get(B, b"after").expect("get").is_some(), "{what}: works again");
}

#[test]
fn damage_does_not_keep_it_from_opening() {
    type Damage = fn(&Path);
    fn overwrite(db: &Path, at: f64, bytes: &[u8]) {
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(db.join("db")).expect("db");
        let len = file.seek(SeekFrom::End(0)).expect("seek");
        file.seek(SeekFrom::Start((len as f64 * at) as u64)).expect("seek");
        file.write_all(bytes).expect("write");
    }
    let cases: [(&str, Damage, bool); 9] = [
        ("nothing", |_| {}, true),
        ("unfinished snapshot", |db| std::fs::write(db.join("snap.X.generating"), b"").expect("write"), true),
        ("empty snapshot", |db| std::fs::write(db.join("snap.0000000000100000"), b"").expect("write"), true),
        ("empty configuration", |db| std::fs::write(db.join("conf"), b"").expect("write"), false),
        ("zeroed middle", |db| overwrite(db, 0.5, &[0; 4096]), false),
        ("zeroed late page", |db| overwrite(db, 0.8, &[0; 4096]), false),
        (
            "random middle",
            |db| {
                let mut noise = vec![0u8; 64 << 10];
                std::fs::File::open("/dev/urandom").expect("urandom").read_exact(&mut noise).expect("read");
                overwrite(db, 0.4, &noise);
            },
            false,
        ),
        (
            "cut",
            |db| {
                let file = std::fs::OpenOptions::new().write(true).open(db.join("db")).expect("db");
                let len = file.metadata().expect("metadata").len();
                file.set_len(len / 3).expect("cut");
            },
            false,
        ),
        (
            "text instead of a database",
            |db| {
                std::fs::remove_dir_all(db).expect("remove");
                std::fs::write(db, b"not a directory").expect("write");
            },
            false,
        ),
    ];
    let template = tempfile::tempdir().expect("temp dir");
    fill(template.path(), 8000);
    for (what, damage, keeps_all) in cases {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("store");
        let copied = Command::new("cp").arg("-a").arg(template.path()).arg(&root).status().expect("cp");
        assert!(copied.success());
        damage(&root.join("db"));
        if keeps_all {
            assert_eq!(open(&root).range(A, b"").expect("range").len(), 8000, "{what}");
        }
        check_after_damage(&root, what);
        assert!(names(&root, "db.broken").len() <= 1, "{what}");
    }
}

#[test]
fn another_schema_starts_empty() {
    let dir = tempfile::tempdir().expect("temp dir");
    fill(dir.path(), 10);
    {
        let db = sled::open(dir.path().join("db")).expect("open");
        db.insert(b"\0schema", b"0").expect("insert");
        db.flush().expect("flush");
    }
    assert!(probe(dir.path()).is_err());
    let store = open(dir.path());
    assert!(store.range(A, b"").expect("range").is_empty());
    assert_eq!(names(dir.path(), "db.broken").len(), 1);
}

#[test]
fn an_interrupted_replacement_is_finished() {
    let dir = tempfile::tempdir().expect("temp dir");
    fill(dir.path(), 10);
    let path = |name: &str| dir.path().join(name);
    // Killed after the first rename, with the new database complete.
    std::fs::rename(path("db"), path("db.new")).expect("rename");
    std::fs::create_dir(path("db.old")).expect("mkdir");
    assert_eq!(open(dir.path()).range(A, b"").expect("range").len(), 10);
    assert!(!path("db.old").exists() && !path("db.new").exists());
    // Killed while the new database was written.
    std::fs::create_dir(path("db.new")).expect("mkdir");
    assert_eq!(open(dir.path()).range(A, b"").expect("range").len(), 10);
    assert!(!path("db.new").exists());
}

#[test]
fn a_failing_probe_starts_empty() {
    let dir = tempfile::tempdir().expect("temp dir");
    let failing = SledOptions { probe: Some(vec!["false".into()]), ..SledOptions::default() };
    let hanging = SledOptions {
        probe: Some(vec!["sh".into(), "-c".into(), "sleep 1000".into()]),
        open_limit: Duration::from_secs(2),
        ..SledOptions::default()
    };
    for (options, kept) in [(failing, 0), (hanging, 0)] {
        fill(dir.path(), 10);
        // After a clean stop nothing is probed.
        let store = SledStore::open(dir.path(), options.clone()).expect("open");
        assert_eq!(store.range(A, b"").expect("range").len(), 10);
        drop(store);
        std::fs::remove_file(dir.path().join("clean")).expect("remove");
        let store = SledStore::open(dir.path(), options).expect("open");
        assert_eq!(store.range(A, b"").expect("range").len(), kept);
    }
}

#[test]
fn disk_use_is_bounded() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = open(dir.path());
    // A hundred live rows, a hundred thousand made and removed.
    let value = [1u8; 200];
    for round in 0..1000 {
        let mut batch = Batch::new();
        for row in 0..100 {
            batch.put(A, format!("{round}/{row}"), value.to_vec());
            if round > 0 {
                batch.delete(A, format!("{}/{row}", round - 1));
            }
        }
        store.apply(batch).expect("apply");
    }
    store.flush().expect("flush");
    let size = store.size_on_disk().expect("size");
    assert!(size < 40 << 20, "{size} bytes for 100 rows");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.range(A, b"").expect("range").len(), 100);
}

#[test]
fn compaction_keeps_the_content() {
    let dir = tempfile::tempdir().expect("temp dir");
    let options = SledOptions { compact_above: 1 << 20, ..SledOptions::default() };
    let store = SledStore::open(dir.path(), options.clone()).expect("open");
    let noise = |number: usize| -> Vec<u8> { (0..1000).map(|at| (number * 31 + at * 7) as u8).collect() };
    for number in 0..30_000 {
        put(&store, A, &format!("{}", number % 300), noise(number));
    }
    store.flush().expect("flush");
    let expect: Vec<_> = store.range(A, b"").expect("range");
    assert_eq!(expect.len(), 300);
    drop(store);
    let store = SledStore::open(dir.path(), options).expect("open");
    store.flush().expect("the compaction at the start is done");
    assert_eq!(store.range(A, b"").expect("range"), expect);
    assert!(store.size_on_disk().expect("size") < 8 << 20);
    assert!(names(dir.path(), "db.broken").is_empty());
}

/// Writes pairs and says what is flushed, until killed.
fn write_for_ever(root: &Path) {
    let store = open(root);
    let mut out = std::io::stdout();
    let first = store.range(A, b"").expect("range").len();
    for number in first.. {
        let mut batch = Batch::new();
        let key = format!("{number:08}");
        batch.put(A, key.clone(), format!("{number}")).put(B, key, format!("{number}"));
        store.apply(batch).expect("apply");
        if number % 50 == 0 {
            store.flush().expect("flush");
            writeln!(out, "flushed {}", number + 1).expect("write");
            out.flush().expect("flush");
        }
    }
}

#[test]
fn survives_kill() {
    // The test runs itself as the process that is killed.
    if let Some(root) = std::env::var_os("METADATA_TEST_ROOT") {
        return write_for_ever(Path::new(&root));
    }
    let dir = tempfile::tempdir().expect("temp dir");
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().expect("exe"))
            .args(["--exact", "survives_kill", "--nocapture"])
            .env("METADATA_TEST_ROOT", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        let mut flushed = 0;
        let mut reports = 0;
        for line in BufReader::new(child.stdout.take().expect("stdout")).lines() {
            let Ok(line) = line else { break };
            // The harness writes lines of its own.
            let Some((_, number)) = line.split_once("flushed ") else { continue };
            flushed = number.parse::<usize>().expect("number");
            reports += 1;
            if reports > 3 + round {
                child.kill().expect("kill");
            }
        }
        child.wait().expect("wait");
        assert!(flushed > 0, "the child wrote");
        let store = open(dir.path());
        let (a, b) = (store.range(A, b"").expect("range"), store.range(B, b"").expect("range"));
        assert!(a.len() >= flushed, "round {round}: {} of {flushed} rows", a.len());
        assert_eq!(a, b, "round {round}: no torn pair");
        assert!(names(dir.path(), "db.broken").is_empty(), "round {round}: the database was set aside");
    }
}

/// One change of a batch: bucket, key, value or removal.
type Step = (bool, u8, Option<Vec<u8>>);

fn to_batch(steps: &[Step]) -> Batch {
    let mut batch = Batch::new();
    for (in_a, key, value) in steps {
        let bucket = if *in_a { A } else { B };
        match value {
            Some(value) => batch.put(bucket, vec![*key], value.clone()),
            None => batch.delete(bucket, vec![*key]),
        };
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(buildkit_util_testutil::rounds(12) as u32))]

    /// Whatever is applied, also across restarts and compactions, both stores agree.
    #[test]
    fn agrees_with_memory(
        rounds in prop::collection::vec(
            prop::collection::vec(
                prop::collection::vec((any::<bool>(), any::<u8>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..50))), 0..20),
                0..20,
            ),
            1..4,
        ),
    ) {
        let dir = tempfile::tempdir().expect("temp dir");
        let memory = MemoryStore::new();
        for round in rounds {
            let options = SledOptions { compact_above: 0, ..SledOptions::default() };
            let store = SledStore::open(dir.path(), options).expect("open");
            for steps in round {
                memory.apply(to_batch(&steps)).expect("apply");
                store.apply(to_batch(&steps)).expect("apply");
            }
            for bucket in [A, B] {
                prop_assert_eq!(store.range(bucket, b"").expect("range"), memory.range(bucket, b"").expect("range"));
            }
        }
        let store = open(dir.path());
        for bucket in [A, B] {
            prop_assert_eq!(store.range(bucket, b"").expect("range"), memory.range(bucket, b"").expect("range"));
        }
    }
}
