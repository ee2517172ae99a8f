//! Indexes of layouts, of our making and of others'.

use std::path::Path;

use buildkit_client_ociindex::{Error, Name, StoreIndex};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_util_ocispec::Descriptor;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn image(text: &str) -> Descriptor {
    Descriptor::of(MANIFEST, text.as_bytes())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("reads")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn nothing_is_there() {
    let dir = tempfile::tempdir().expect("temp dir");
    for root in [dir.path().to_owned(), dir.path().join("none")] {
        let error = StoreIndex::new(&root).read().expect_err("no index");
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        assert!(StoreIndex::new(&root).get("latest").is_err());
    }
    assert!(names(dir.path()).is_empty(), "reading leaves no traces");
    assert!(StoreIndex::new(dir.path().join("none")).put(&image("a"), &[]).is_err());
}

#[test]
fn images_get_names_and_lose_them_to_others() {
    let dir = tempfile::tempdir().expect("temp dir");
    let index = StoreIndex::new(dir.path());
    let (one, two) = (image("one"), image("two"));
    index.put(&one, &[Name::Tag("latest".to_owned())]).expect("puts");
    assert_eq!(names(dir.path()), ["index.json", "oci-layout"]);
    let layout = std::fs::read_to_string(dir.path().join("oci-layout")).expect("reads");
    assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let written = std::fs::read_to_string(dir.path().join("index.json")).expect("reads");
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":3,"annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#,
        one.digest
    );
    assert_eq!(written, expected);
    assert_eq!(index.single().expect("reads").expect("is one").digest, one.digest);

    let name = |name: &str| Name::Image(name.to_owned());
    index.put(&two, &[name("a.b/c:v1"), name("a.b/c:v2"), Name::Tag("latest".to_owned())]).expect("puts");
    let digest = |tag: &str| index.get(tag).expect("reads").map(|found| found.digest);
    assert_eq!(digest("latest"), Some(two.digest.clone()));
    assert_eq!(digest("a.b/c:v1"), Some(two.digest.clone()));
    assert_eq!(digest("v2"), Some(two.digest.clone()));
    assert_eq!(digest("v3"), None);
    index.put(&one, &[name("a.b/c:v1")]).expect("puts");
    assert_eq!(digest("a.b/c:v1"), Some(one.digest.clone()));
    assert_eq!(index.read().expect("reads").manifests.len(), 3);
    assert_eq!(index.single().expect("reads"), None);
    // Without a name it takes nobody's.
    index.put(&one, &[]).expect("puts");
    assert_eq!(index.read().expect("reads").manifests.len(), 4);
}

#[test]
fn what_is_not_known_stays() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (index, path) = (StoreIndex::new(dir.path()), dir.path().join("index.json"));
    let strange = r#"{"digest":"none","x":1.50,"annotations":{"a":1}}"#;
    let before = format!(
        r#"{{"z":{{"b":[1,2e3],"a":null}},"annotations":{{"k":"v"}},"manifests":[{strange}],"mediaType":"","schemaVersion":2}}"#
    );
    std::fs::write(&path, before).expect("writes");
    std::fs::write(dir.path().join("oci-layout"), "{ \"imageLayoutVersion\": \"1.0.0\", \"x\": 1 }")
        .expect("writes");
    index.put(&image("a"), &[Name::Tag("t".to_owned())]).expect("puts");
    let after = std::fs::read_to_string(&path).expect("reads");
    let digest = image("a").digest;
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{strange},{{"mediaType":"{MANIFEST}","digest":"{digest}","size":1,"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}],"annotations":{{"k":"v"}},"z":{{"b":[1,2e3],"a":null}}}}"#
    );
    assert_eq!(after, expected);
    assert!(std::fs::read_to_string(dir.path().join("oci-layout")).expect("reads").contains("\"x\""));
    // One entry that makes no sense does not hide the others.
    assert_eq!(index.get("t").expect("reads").expect("is there").digest, digest);

    for bad in ["{", "[]", r#"{"manifests":{}}"#, "\u{0}"] {
        std::fs::write(&path, bad).expect("writes");
        assert!(matches!(index.get("t"), Err(Error::Invalid { .. })), "{bad}");
        assert!(matches!(index.put(&image("a"), &[]), Err(Error::Invalid { .. })), "{bad}");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), bad, "a malformed index is left alone");
    }
    assert_eq!(names(dir.path()), ["index.json", "oci-layout"]);
}

#[test]
fn many_writers_lose_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let index = StoreIndex::new(dir.path());
            scope.spawn(move || {
                for number in 0..10 {
                    let tag = Name::Tag(format!("{writer}-{number}"));
                    index.put(&image(&format!("{writer} {number}")), &[tag]).expect("puts");
                    index.read().expect("reads");
                }
            });
        }
    });
    assert_eq!(StoreIndex::new(dir.path()).read().expect("reads").manifests.len(), 80);
    assert_eq!(names(dir.path()), ["index.json", "oci-layout"]);
}
