//! Holds documents against those of the Go daemon (`--export-cache type=local,mode=max` and `type=inline` of one
//! build each), and reads what nobody should write. `linked` was built with `COPY --link`, so that results of
//! it are not the lowest layers of the image.

use buildkit_cache_remotecache_v1::{Link, MAX_CONFIG, ParseError, Record, RecordResult, Records};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{Descriptor, media_type, to_json};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    config: String,
    cache_layers: Vec<Descriptor>,
    inline: String,
    image_layers: Vec<Descriptor>,
}

fn recorded() -> Vec<Recorded> {
    [include_str!("data/plain.json"), include_str!("data/linked.json")]
        .map(|json| serde_json::from_str(json).expect("a recording"))
        .into()
}

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("JSON")
}

fn layer(name: &str) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER_GZIP, name.as_bytes())
}

fn record(name: &str, inputs: Vec<Vec<Link>>, results: &[&[usize]]) -> Record {
    let results = results.iter().map(|layers| RecordResult {
        layers: layers.to_vec(),
        created_at: "2000-01-01T00:00:00Z".parse().expect("a time"),
    });
    Record { digest: Digest::sha256(name), inputs, results: results.collect() }
}

fn link(record: usize) -> Link {
    Link { record, selector: None }
}

#[test]
fn results_go_with_their_layers_and_keys_stay() {
    let first = record("first", Vec::new(), &[&[0], &[1]]);
    let second = record("second", vec![vec![link(0)]], &[&[0, 1], &[0, 2]]);
    let mut records = Records { layers: ["a", "b", "c"].map(layer).into(), records: vec![first, second] };
    records.retain_layers(|it| it.digest != layer("b").digest);
    assert_eq!(records.records[0], record("first", Vec::new(), &[&[0]]));
    assert_eq!(records.records[1], record("second", vec![vec![link(0)]], &[&[0, 2]]));
    // A place that there is not is no layer that can be had.
    records.records[1].results[0].layers = vec![9];
    records.retain_layers(|_| true);
    assert_eq!(records.records[1].results, []);
}

#[test]
fn documents_have_the_bytes_of_upstream() {
    for Recorded { config, cache_layers, inline, image_layers } in recorded() {
        let mut records = Records::parse(config.as_bytes(), cache_layers).expect("records");
        assert_eq!(text(to_json(&records.to_config())), config);
        assert_eq!(text(records.to_inline(&image_layers).expect("results")), inline);
        let read = Records::from_inline(inline.as_bytes(), image_layers.clone()).expect("records");
        assert_eq!(text(read.to_inline(&image_layers).expect("results")), inline);
        // The order in which records come does not show.
        let last = records.records.len();
        records.records.push(record("another", vec![vec![link(0)]], &[]));
        records.records.push(record("made up", Vec::new(), &[]));
        records.records[last + 1].digest = Digest::from_hash("random", &[1]);
        let only_made_up = record("of what was made up", vec![vec![link(last + 1)]], &[&[0]]);
        records.records.push(only_made_up);
        let other = records.to_config();
        assert_eq!(other.records.len(), last + 1, "what never matches again is left out");
    }
}

#[test]
fn images_that_are_compressed_differently_have_the_same_records() {
    for Recorded { config, cache_layers, inline, image_layers } in recorded() {
        let with_content = |layer: Descriptor| {
            let content = Digest::sha256(format!("content of {}", layer.digest));
            layer.with_annotation("containerd.io/uncompressed", content.as_str())
        };
        let layers = cache_layers.into_iter().map(with_content).collect();
        let records = Records::parse(config.as_bytes(), layers).expect("records");
        let otherwise: Vec<Descriptor> = image_layers
            .into_iter()
            .map(with_content)
            .map(|layer| Descriptor {
                media_type: media_type::OCI_LAYER_ZSTD.to_owned(),
                digest: Digest::sha256(format!("zstd {}", layer.digest)),
                ..layer
            })
            .collect();
        assert_eq!(text(records.to_inline(&otherwise).expect("results")), inline);
    }
}

#[test]
fn results_are_read_with_their_layers() {
    let Recorded { inline, image_layers, .. } = recorded().pop().expect("linked");
    let read = Records::from_inline(inline.as_bytes(), image_layers.clone()).expect("records");
    let mut results: Vec<&[usize]> =
        read.records.iter().flat_map(|record| &record.results).map(|result| &*result.layers).collect();
    results.sort_unstable();
    assert_eq!(results, [&[0, 1][..], &[0, 1, 2], &[0, 1, 2, 3], &[2], &[3]]);
    for (place, record) in read.records.iter().enumerate() {
        assert!(record.inputs.iter().flatten().all(|link| link.record < place), "links lead back");
    }
    // Without one of the layers, results with it are gone, and the keys stay.
    let config = recorded().pop().expect("linked").config;
    let layers = vec![image_layers[0].clone(), image_layers[1].clone(), image_layers[3].clone()];
    let some = Records::parse(config.as_bytes(), layers).expect("records");
    assert_eq!(some.records.len(), read.records.len());
    let results: Vec<_> = some.records.iter().flat_map(|record| &record.results).collect();
    assert_eq!(results.len(), 2);
}

#[test]
fn of_several_results_the_newest_is_written() {
    let mut one = record("a", Vec::new(), &[&[0], &[1], &[]]);
    one.results[1].created_at = "2000-01-01T00:00:00.5Z".parse().expect("a time");
    let records = Records { layers: vec![layer("0"), layer("1")], records: vec![one] };
    let config = records.to_config();
    assert_eq!(config.layers.len(), 1);
    assert_eq!(config.layers[0].blob, layer("1").digest);
    // In an image without that layer, the other counts.
    let inline = text(records.to_inline(&[layer("0")]).expect("a result"));
    assert!(inline.contains(r#""layers":[{"layer":0,"createdAt":"2000-01-01T00:00:00Z"}]"#), "{inline}");
    assert_eq!(records.to_inline(&[layer("2")]), None);
}

#[test]
fn layers_are_the_same_if_their_content_is() {
    let with_content =
        |name: &str| layer(name).with_annotation("containerd.io/uncompressed", Digest::sha256("c").as_str());
    let records =
        Records { layers: vec![with_content("gzip")], records: vec![record("a", Vec::new(), &[&[0]])] };
    assert!(records.to_inline(&[with_content("zstd")]).is_some());
    let plain = Descriptor::of(media_type::OCI_LAYER, b"c");
    assert!(records.to_inline(&[plain]).is_some(), "a layer that is not compressed");
}

#[test]
fn a_parent_that_is_left_out_is_layer_0() {
    let layers = vec![layer("a"), layer("b")];
    let blobs: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let json = format!(
        r#"{{"layers":[{{"blob":"{}","parent":-1}},{{"blob":"{}"}}],
        "records":[{{"digest":"{}","layers":[{{"layer":1,"createdAt":"2000-01-01T00:00:00Z"}}]}}]}}"#,
        blobs[0], blobs[1], blobs[0],
    );
    let records = Records::parse(json.as_bytes(), layers).expect("records");
    assert_eq!(records.records[0].results[0].layers, [0, 1]);
}

#[test]
fn hostile_documents_are_refused() {
    let digest = Digest::sha256("a");
    let time = r#""createdAt":"2000-01-01T00:00:00Z""#;
    let with = |layers: &str, record: &str| {
        format!(r#"{{"layers":[{layers}],"records":[{{"digest":"{digest}",{record}}}]}}"#)
    };
    let blob = |parent: i64| format!(r#"{{"blob":"{digest}","parent":{parent}}}"#);
    let result = |layer: i64| format!(r#""layers":[{{"layer":{layer},{time}}}]"#);
    for (json, reason) in [
        ("x".to_owned(), "expected value"),
        (with("", r#""inputs":[[]]"#), "invalid empty input for record 0"),
        (with("", r#""inputs":[[{"link":0}]]"#), "invalid looping record"),
        (with("", r#""inputs":[[{"link":1}]]"#), "invalid record ID: 1"),
        (with("", r#""inputs":[[{"link":-1}]]"#), "invalid record ID: -1"),
        (with("", r#""inputs":[[{"link":0,"selector":"x"}]]"#), "Invalid digest"),
        (with("", &result(0)), "invalid layer index 0"),
        (with(&blob(-1), &result(-1)), "invalid layer index -1"),
        (with(&blob(-2), &result(0)), "invalid layer index -2"),
        (with(&blob(7), &result(0)), "invalid layer index 7"),
        (with(&blob(0), &result(0)), "invalid looping layer"),
        (with("", &format!(r#""chains":[{{"layers":[3],{time}}}]"#)), "invalid layer index 3"),
        (with(r#"{"blob":"../x","parent":-1}"#, &result(0)), "Invalid digest"),
    ] {
        let error = Records::parse(json.as_bytes(), Vec::new()).expect_err(&json);
        assert!(error.to_string().contains(reason), "{json}: {error}");
    }
    let large = vec![b' '; MAX_CONFIG + 1];
    assert!(matches!(Records::parse(&large, Vec::new()), Err(ParseError::TooLarge(_))));
    assert!(matches!(Records::from_inline(&large, Vec::new()), Err(ParseError::TooLarge(_))));
    assert_eq!(Records::from_inline(b"null", Vec::new()).expect("nothing"), Records::default());
}

#[test]
fn small_documents_do_not_become_large() {
    // Each result stands for all layers.
    let digest = Digest::sha256("a");
    let layers: Vec<String> =
        (0..5000).map(|place| format!(r#"{{"blob":"{digest}","parent":{}}}"#, place - 1)).collect();
    let results = vec![r#"{"layer":4999,"createdAt":"2000-01-01T00:00:00Z"}"#; 9000].join(",");
    let json = format!(
        r#"{{"layers":[{}],"records":[{{"digest":"{digest}","layers":[{results}]}}]}}"#,
        layers.join(",")
    );
    assert!(json.len() < MAX_CONFIG);
    Records::parse(json.as_bytes(), vec![layer("a")]).expect_err("too many layers");
    // A chain of records is as deep as there are records.
    let records: Vec<String> = (0..9000)
        .map(|place| match place {
            8999 => format!(r#"{{"digest":"{digest}"}}"#),
            _ => format!(r#"{{"digest":"{digest}","inputs":[[{{"link":{}}}]]}}"#, place + 1),
        })
        .collect();
    let json = format!(r#"{{"records":[{}]}}"#, records.join(","));
    assert!(json.len() < MAX_CONFIG);
    let read = Records::parse(json.as_bytes(), Vec::new()).expect("records");
    assert_eq!(read.records.len(), 9000);
    assert_eq!(read.to_config().records.len(), 9000);
}

fn any_records() -> impl Strategy<Value = Records> {
    let record =
        (0..4u8, prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..3), 0..3))
            .prop_flat_map(|part| {
                (Just(part), prop::collection::vec(prop::collection::vec(0..4usize, 1..4), 0..2))
            });
    prop::collection::vec(record, 1..12).prop_map(|parts| {
        let mut records: Vec<Record> = Vec::new();
        for (number, ((name, inputs), results)) in parts.into_iter().enumerate() {
            let inputs = match number {
                0 => Vec::new(),
                _ => inputs
                    .iter()
                    .map(|links| links.iter().map(|place| link(place.index(number))).collect())
                    .collect(),
            };
            let results: Vec<&[usize]> = results.iter().map(Vec::as_slice).collect();
            records.push(record_named(name, inputs, &results));
        }
        Records { layers: ["0", "1", "2", "3"].map(layer).into(), records }
    })
}

fn record_named(name: u8, inputs: Vec<Vec<Link>>, results: &[&[usize]]) -> Record {
    record(&name.to_string(), inputs, results)
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in any_records()) {
        let config = records.to_config();
        let read = Records::parse(&to_json(&config), records.layers.clone()).expect("records");
        prop_assert_eq!(read.records.len(), records.records.len());
        prop_assert_eq!(read.to_config().records.len(), config.records.len());
        let sum = |records: &Records| -> usize {
            records.records.iter().filter_map(|record| record.results.first()).map(|result| result.layers.len()).sum()
        };
        prop_assert_eq!(sum(&read), sum(&records));
        if let Some(inline) = records.to_inline(&records.layers) {
            let read = Records::from_inline(&inline, records.layers.clone()).expect("records");
            prop_assert_eq!(sum(&read), sum(&records));
        }
    }

    #[test]
    fn no_bytes_make_it_fall(json in ".*", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Records::parse(json.as_bytes(), Vec::new());
        let _ = Records::from_inline(&bytes, Vec::new());
    }
}
