//! Tests against encodings recorded from the original implementation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_util_cachedigest::Digest;
use proptest::prelude::*;
use prost::Message;
use serde_json::Value as Json;

use crate::canonical::{Kind, Rule, canonical, index_of};
use crate::json::{FromJson, from_str};
use crate::wire::{Reader, put_bytes, put_number, put_varint};
use crate::{Definition, Op, RawOp};

const OPS: &str = include_str!("../tests/vectors/ops.json");
const DEFINITIONS: &str = include_str!("../tests/vectors/definitions.json");
const FIELDS: &str = include_str!("../tests/vectors/fields.json");
const LLB: &str = include_str!("../tests/vectors/llb.json");

struct Vector {
    what: String,
    message: String,
    encoded: Vec<u8>,
    digest: Option<String>,
    json: String,
}

fn vectors() -> Vec<Vector> {
    let text = |entry: &Json, name: &str| entry[name].as_str().map(str::to_owned);
    let mut all = Vec::new();
    for file in [OPS, DEFINITIONS, FIELDS] {
        let entries: Vec<Json> = serde_json::from_str(file).unwrap();
        for entry in entries {
            let message = text(&entry, "message").unwrap();
            let name = text(&entry, "name").or(text(&entry, "fields")).unwrap();
            // A nil slice is not the same as an empty one in Go's JSON; no encoding tells them apart.
            let json = text(&entry, "json").unwrap().replace("null", "\"\"");
            all.push(Vector {
                what: format!("{message} {name}"),
                message,
                encoded: hex::decode(text(&entry, "protobuf").unwrap()).unwrap(),
                digest: text(&entry, "digest"),
                json,
            });
        }
    }
    assert!(all.len() > 300);
    all
}

/// Decodes, writes JSON, reads it back and encodes again.
fn json_of<M: Message + Default + FromJson + buildkit_util_gojson::Value>(
    vector: &Vector,
) -> (String, Vec<u8>) {
    let message = M::decode(&vector.encoded[..]).unwrap();
    let json = buildkit_util_gojson::to_string(&message);
    let again: M = from_str(&json).unwrap_or_else(|error| panic!("{}: {error}", vector.what));
    (json, again.encode_to_vec())
}

macro_rules! json_by_name {
    ($vector:expr; $($message:ident = $name:literal),*) => {
        match $vector.message.as_str() {
            $(concat!("pb.", $name) => json_of::<crate::$message>($vector),)*
            other => panic!("no type for {other}"),
        }
    };
}

#[test]
fn json_is_that_of_the_original() {
    for vector in vectors() {
        let (json, again) = json_by_name!(&vector;
            BuildInput = "BuildInput", BuildOp = "BuildOp", CdiDevice = "CDIDevice",
            CacheOpt = "CacheOpt", ChownOpt = "ChownOpt", Definition = "Definition",
            DiffOp = "DiffOp", ExecOp = "ExecOp", ExportCache = "ExportCache",
            FileAction = "FileAction", FileActionCopy = "FileActionCopy",
            FileActionMkDir = "FileActionMkDir", FileActionMkFile = "FileActionMkFile",
            FileActionRm = "FileActionRm", FileActionSymlink = "FileActionSymlink",
            FileOp = "FileOp", HostIp = "HostIP", Input = "Input",
            LinuxResources = "LinuxResources", Location = "Location", Locations = "Locations",
            LowerDiffInput = "LowerDiffInput", MergeInput = "MergeInput", MergeOp = "MergeOp",
            Meta = "Meta", Mount = "Mount", NamedUserOpt = "NamedUserOpt", Op = "Op",
            OpMetadata = "OpMetadata", PassthroughOp = "PassthroughOp", Platform = "Platform",
            Position = "Position", ProgressGroup = "ProgressGroup", ProxyEnv = "ProxyEnv",
            Range = "Range", SshOpt = "SSHOpt", SecretEnv = "SecretEnv", SecretOpt = "SecretOpt",
            Source = "Source", SourceInfo = "SourceInfo", SourceOp = "SourceOp",
            TmpfsOpt = "TmpfsOpt", Ulimit = "Ulimit", UpperDiffInput = "UpperDiffInput",
            UserOpt = "UserOpt", WorkerConstraints = "WorkerConstraints"
        );
        assert_eq!(json, vector.json, "{}", vector.what);
        // The forms of symbolic links and of nobody do not say what they are of.
        if !["symlink", "\"User\":{}"].iter().any(|lossy| vector.json.contains(lossy))
            && !vector.what.contains("symlink")
        {
            let index = index_of(&vector.message).unwrap();
            let again = canonical(index, &again).unwrap();
            assert_eq!(hex::encode(again), hex::encode(&vector.encoded), "{}", vector.what);
        }
    }
}

#[test]
fn encodings_are_those_of_the_original() {
    for vector in vectors() {
        let index = index_of(&vector.message).unwrap();
        let again = canonical(index, &vector.encoded).unwrap();
        assert_eq!(hex::encode(again), hex::encode(&vector.encoded), "{}", vector.what);
        if let Some(digest) = &vector.digest {
            assert_eq!(Digest::sha256(&vector.encoded).as_str(), digest, "{}", vector.what);
        }
        match vector.message.as_str() {
            "pb.Op" => {
                let op = Op::decode(&vector.encoded[..]).unwrap();
                assert_eq!(
                    hex::encode(op.encode_deterministic()),
                    hex::encode(&vector.encoded),
                    "{}",
                    vector.what
                );
                let raw = RawOp::decode(&vector.encoded).unwrap();
                assert_eq!(raw.op(), &op);
                assert_eq!(&raw.encoded()[..], &vector.encoded[..]);
                assert_eq!(raw.digest(), op.digest());
            }
            "pb.Definition" => {
                let definition = Definition::decode(&vector.encoded[..]).unwrap();
                assert_eq!(definition.encode_deterministic(), vector.encoded, "{}", vector.what);
            }
            _ => {}
        }
    }
}

#[test]
fn marshalled_llb_decodes_and_encodes_alike() {
    let entries: Vec<Json> = serde_json::from_str(LLB).unwrap();
    let mut ops = 0;
    for entry in &entries {
        let Some(encoded) = entry["definition"].as_str() else {
            continue;
        };
        let encoded = STANDARD.decode(encoded).unwrap();
        let definition = Definition::decode(&encoded[..]).unwrap();
        assert_eq!(definition.encode_deterministic(), encoded, "{}", entry["name"]);
        let digests: Vec<_> = definition
            .def
            .iter()
            .map(|op| {
                let raw = RawOp::decode(op).unwrap();
                assert_eq!(raw.encoded(), op, "{}", entry["name"]);
                Json::from(raw.digest().as_str())
            })
            .collect();
        ops += digests.len();
        if let Some(want) = entry["digests"].as_array() {
            assert_eq!(&digests, want, "{}", entry["name"]);
        }
    }
    assert!(ops > 300, "{ops}");
}

/// Field 9000 with a text, which no message knows.
fn unknown(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 9000, text.as_bytes());
    out
}

fn op_with_unknown_parts() -> Vec<u8> {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, b"sha256:old");
    input.extend(unknown("in input"));
    put_number(&mut input, 2, 3);
    let mut source = Vec::new();
    source.extend(unknown("in source"));
    put_bytes(&mut source, 1, b"local://a");
    let mut op = unknown("in op");
    put_bytes(&mut op, 3, &source);
    put_bytes(&mut op, 1, &input);
    put_bytes(&mut op, 1, &[]);
    op
}

#[test]
fn unknown_fields_survive_rewriting() {
    let mut op = RawOp::decode(&op_with_unknown_parts()).unwrap();
    assert!(op.set_input_digests(["only one"]).is_err());
    op.set_input_digests(["sha256:new", "sha256:other"]).unwrap();
    let mut source = crate::SourceOp { identifier: "local://b".into(), ..Default::default() };
    crate::map::set(&mut source.attrs, "k", String::new());
    op.set_source(&source).unwrap();

    let mut first = Vec::new();
    put_bytes(&mut first, 1, b"sha256:new");
    put_number(&mut first, 2, 3);
    first.extend(unknown("in input"));
    let mut second = Vec::new();
    put_bytes(&mut second, 1, b"sha256:other");
    let mut encoded_source = source.encode_deterministic();
    encoded_source.extend(unknown("in source"));
    let mut want = Vec::new();
    put_bytes(&mut want, 1, &first);
    put_bytes(&mut want, 1, &second);
    put_bytes(&mut want, 3, &encoded_source);
    want.extend(unknown("in op"));
    assert_eq!(hex::encode(op.encoded()), hex::encode(want));
    assert_eq!(op.op().inputs[0].index, 3);
    assert_eq!(op.op().op, Some(crate::op::Op::Source(source)));

    let mut merge = RawOp::decode(&hex::decode("3200").unwrap()).unwrap();
    assert!(merge.set_source(&crate::SourceOp::default()).is_err());
}

#[test]
fn decoding_follows_the_protobuf_rules() {
    let op = index_of("pb.Op").unwrap();
    for (what, given, want) in [
        ("the last oneof counts", "1200 1a00", "1a00"),
        ("and nothing from before it", "1a030a0161 3200", "3200"),
        ("a member that comes back starts anew", "1a030a0161 3200 1a030a0162", "1a030a0162"),
        ("one that stays is merged", "1a030a0161 1a0712050a016b1200", "1a0a 0a0161 12050a016b1200"),
        ("singular messages are merged", "5203120161 52030a0162", "5206 0a0162 120161"),
        ("a default is dropped", "0a05 0a0161 1000", "0a03 0a0161"),
        ("the last number counts", "0a04 1001 1002", "0a02 1002"),
        ("numbers are packed", "4202 1001", "4203 120101"),
        ("packed or not is one list", "420a 12020102 1003 12020405", "4207 12050102030405"),
        ("a map entry is whole", "1a05 12030a0161", "1a07 12050a01611200"),
        ("so is an empty one", "1a02 1200", "1a06 12040a001200"),
        ("the unknown in it is lost", "1a07 12050a01611a00", "1a07 12050a01611200"),
        ("the last entry counts", "1a0d 12030a0161 12060a0161120162", "1a08 12060a0161120162"),
        ("enums have 32 bits", "1206 188180808010", "1202 1801"),
        ("booleans have one", "1204 12022802", "1204 12022801"),
        ("what is longer than it must be is cut", "8a808000 8000", "0a00"),
        ("unknown groups are kept, at the end", "c33e 0801 c43e 3200", "3200 c33e 0801 c43e"),
    ] {
        let given = hex::decode(given.replace(' ', "")).unwrap();
        let result = canonical(op, &given).map(hex::encode);
        assert_eq!(result.unwrap(), want.replace(' ', ""), "{what}");
    }
}

#[test]
fn malformed_ops_are_errors() {
    let mut deep = Vec::new();
    for _ in 0..200 {
        // Definition in SourceInfo in Source.
        let mut info = Vec::new();
        put_bytes(&mut info, 3, &deep);
        let mut source = Vec::new();
        put_bytes(&mut source, 2, &info);
        deep.clear();
        put_bytes(&mut deep, 3, &source);
    }
    let mut build = Vec::new();
    put_bytes(&mut build, 3, &deep);
    let mut op = Vec::new();
    put_bytes(&mut op, 5, &build);
    let too_deep = RawOp::decode(&op).unwrap_err().to_string();
    assert!(too_deep.contains("nest too deep"), "{too_deep}");

    for (given, want) in [
        ("0a", "`pb.Op` failed: it ends within a field"),
        ("0a05", "`pb.Op` failed: it ends within a field"),
        ("0801", "`pb.Op` failed: a field has the wire type of another kind"),
        ("0a030a01ff", "`pb.Input` failed: a string is not UTF-8"),
        ("0200", "`pb.Op` failed: a field number is out of range"),
        ("ffffffffffffffffff7f", "`pb.Op` failed: a varint is too long"),
        ("6c", "`pb.Op` failed: a wire type is not valid"),
        ("6b", "`pb.Op` failed: it ends within a field"),
        ("1a041202 0801", "`pb.SourceOp.AttrsEntry` failed: a field has the wire type of another kind"),
    ] {
        let error = RawOp::decode(&hex::decode(given.replace(' ', "")).unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with(want), "{given}: {text}");
    }
}

#[test]
fn malformed_json_says_where() {
    for (json, want) in [
        (
            r#"{"Op":{"exec":{"mounts":[{"input":"x"}]}}}"#,
            "`exec`: `mounts`: `input`: an integer is wanted where a string stands",
        ),
        (r#"{"platform":[]}"#, "`platform`: an object is wanted where a list stands"),
        (
            r#"{"Op":{"file":{"actions":[{"Action":{"mkfile":{"data":"?"}}}]}}}"#,
            "`file`: `actions`: `mkfile`: `data`: Invalid symbol 63, offset 0.",
        ),
    ] {
        let error = from_str::<Op>(json).unwrap_err().to_string();
        assert_eq!(error, format!("Decoding the JSON of LLB message `pb.Op` failed: {want}"));
    }
    assert_eq!(from_str::<Op>(r#"{"unknown":1,"Op":null,"inputs":null}"#).unwrap(), Op::default());
}

/// The fields of `encoded`, each with what it takes to sort them.
fn fields(encoded: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut reader = Reader::new(encoded, "test");
    let mut fields = Vec::new();
    while let Some(field) = reader.field().unwrap() {
        fields.push((field.number, field.raw.to_vec()));
    }
    fields
}

/// Writes a random message of the table, with the entropy of `dice`.
fn random_message(message: usize, dice: &mut std::slice::Iter<'_, u8>, depth: usize) -> Vec<u8> {
    let fields = crate::canonical::fields(message);
    let mut out = Vec::new();
    let mut roll = |sides: usize| dice.next().map_or(0, |byte| *byte as usize % sides);
    let picks: Vec<_> = (0..roll(6)).map(|_| (roll(fields.len() + 1), roll(256))).collect();
    for (pick, value) in picks {
        let Some(field) = fields.get(pick) else {
            continue;
        };
        let numbers = [0, 1, value as u64, u64::MAX, 1 << 31, 1 << 32];
        match field.kind {
            Kind::Message(_) if depth > 12 => {}
            Kind::Message(inner) if field.rule == Rule::Map => {
                // A part that comes twice is merged by prost and replaced by the original.
                let mut entry = random_message(inner, dice, depth + 1);
                let mut parts = crate::vectors::fields(&entry);
                parts.dedup_by_key(|(number, _)| *number);
                parts.truncate(2);
                entry = parts.into_iter().flat_map(|(_, raw)| raw).collect();
                put_bytes(&mut out, field.number, &entry);
            }
            Kind::Message(inner) => {
                put_bytes(&mut out, field.number, &random_message(inner, dice, depth + 1));
            }
            Kind::String | Kind::Bytes => {
                let text = ["", "a", "b", "\u{e4}", "<&>"][value % 5];
                put_bytes(&mut out, field.number, text.as_bytes());
            }
            _ if field.rule == Rule::Packed && value % 2 == 0 => {
                let mut packed = Vec::new();
                numbers.iter().take(value % 5).for_each(|number| put_varint(&mut packed, *number));
                put_bytes(&mut out, field.number, &packed);
            }
            _ => put_number(&mut out, field.number, numbers[value % numbers.len()]),
        }
    }
    out
}

proptest! {
    #[test]
    fn both_ways_of_encoding_agree(dice in proptest::collection::vec(any::<u8>(), 0..400)) {
        let op = index_of("pb.Op").unwrap();
        let bytes = random_message(op, &mut dice.iter(), 0);
        let raw = RawOp::decode(&bytes).unwrap();
        let decoded = Op::decode(&bytes[..]).unwrap();
        prop_assert_eq!(hex::encode(raw.encoded()), hex::encode(decoded.encode_deterministic()));
        crate::fuzz_raw_op(&bytes);
    }

    #[test]
    fn any_order_of_fields_is_brought_in_order(at in 0usize..1000, seed in any::<[u8; 16]>()) {
        let vectors = vectors();
        let vector = &vectors[at % vectors.len()];
        let mut fields = fields(&vector.encoded);
        // Fields with one number stay in order; maps need not, but their keys are unique.
        fields.sort_by_key(|(number, _)| seed[*number as usize % seed.len()]);
        let scrambled: Vec<u8> = fields.into_iter().flat_map(|(_, raw)| raw).collect();
        let index = index_of(&vector.message).unwrap();
        prop_assert_eq!(canonical(index, &scrambled).unwrap(), vector.encoded.clone());
    }

    #[test]
    fn damaged_json_does_no_harm(
        at in 0usize..1000,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..4),
    ) {
        let vectors = vectors();
        let mut text: Vec<char> = vectors[at % vectors.len()].json.chars().collect();
        for (index, char) in changes {
            let at = index.index(text.len());
            text[at] = char;
        }
        crate::json::fuzz_json(&text.into_iter().collect::<String>());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz_raw_op(&bytes);
    }

    #[test]
    fn damaged_ops_do_no_harm(
        at in 0usize..1000,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let vectors = vectors();
        let ops: Vec<_> = vectors.iter().filter(|vector| vector.message == "pb.Op").collect();
        let mut bytes = ops[at % ops.len()].encoded.clone();
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        crate::fuzz_raw_op(&bytes);
    }
}
