//! Messages nested without end.

use bytes::Bytes;

use crate::client::connect;
use crate::messages::{PATIENCE, SERVICES};
use crate::sandbox::Sandbox;
use crate::wire::{Schema, call};

/// Groups in groups, and definitions in the sources of definitions.
fn deep_messages(schema: &Schema) -> Vec<(&'static str, Bytes)> {
    let open = vec![0x0b; 1_000_000];
    let closed = [vec![0x0b; 500_000], vec![0x0c; 500_000]].concat();
    // Field 2047, which no message has.
    let unknown = [0xfb, 0x7f].repeat(500_000);
    let path = [
        schema.field(".pb.Definition", "Source"),
        schema.field(".pb.Source", "infos"),
        schema.field(".pb.SourceInfo", "definition"),
    ];
    // From the inside out, written backwards.
    let mut nested: Vec<u8> = Vec::new();
    let mut at = 0;
    while nested.len() < 1_000_000 {
        let mut header = Vec::new();
        prost::encoding::encode_key(
            path[2 - at % 3],
            prost::encoding::WireType::LengthDelimited,
            &mut header,
        );
        prost::encoding::encode_varint(nested.len() as u64, &mut header);
        nested.extend(header.into_iter().rev());
        at += 1;
    }
    nested.reverse();
    // As a field of what holds a definition: number 1 of bridge requests, 2 of those to `Control`.
    let mut all = vec![("open", open.into()), ("closed", closed.into()), ("unknown", unknown.into())];
    for number in [1, 2] {
        let mut outer = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut outer);
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend_from_slice(&nested);
        all.push(("definitions", outer.into()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_07_deep_messages_are_refused_by_every_service() {
    let mut sandbox = Sandbox::new();
    let id = sandbox.daemon.id();
    let channel = connect(&sandbox).await;
    let schema = Schema::load();
    let services =
        [&SERVICES[..], &["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]].concat();
    let mut methods: Vec<(String, bool)> =
        schema.methods(&services).into_iter().map(|method| (method.path, method.is_stream)).collect();
    methods.extend([
        ("/grpc.health.v1.Health/Check".to_owned(), false),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(), true),
    ]);
    assert!(methods.len() > 25, "{methods:?}");
    for (path, is_stream) in methods {
        for (name, body) in deep_messages(&schema) {
            let answer = tokio::time::timeout(PATIENCE, call(&channel, &path, None, body)).await;
            match answer {
                Ok(Err(status)) => assert!(!status.message().is_empty(), "{path} {name}: {status:?}"),
                // A field that a message does not have is skipped, if it has an end.
                Ok(Ok(())) => assert!(name == "definitions" || is_stream, "{path} took {name}"),
                Err(_) => assert!(is_stream || name == "definitions", "{path} waits after {name}"),
            }
        }
    }
    assert_eq!(sandbox.daemon.id(), id);
    assert!(!sandbox.daemon.log().contains("panicked"), "{}", sandbox.daemon.log());
    drop(channel);
    tokio::task::block_in_place(|| sandbox.assert_serves("after deep messages"));
}
