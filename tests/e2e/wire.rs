//! Messages of every service by their descriptors, whole and broken in every place.

use std::collections::HashMap;

use buildkit_api_services_control::FILE_DESCRIPTOR_SET;
use buildkit_session_pb::RawCodec;
use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet, MethodDescriptorProto};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::client::MAX_MESSAGE;

/// How deep messages are filled.
const DEPTH: usize = 6;

/// An encoded value that can be taken apart still.
#[derive(Clone, Debug)]
pub enum Value {
    Number(u64),
    Fixed(WireType),
    Bytes(Bytes),
    Message(Vec<(u32, Value)>),
}

/// A call that a server answers.
pub struct Method {
    /// As in HTTP/2.
    pub path: String,
    /// Full name of the request, with a dot in front.
    pub input: String,
    /// Whether the request is a stream.
    pub is_stream: bool,
}

/// What the messages and services of this project look like.
pub struct Schema {
    messages: HashMap<String, DescriptorProto>,
    methods: Vec<(String, MethodDescriptorProto)>,
}

impl Schema {
    pub fn load() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut schema = Self { messages: HashMap::new(), methods: Vec::new() };
        for file in set.file {
            let package = file.package().to_owned();
            for message in file.message_type {
                schema.add(&format!(".{package}"), message);
            }
            for service in file.service {
                let service_name = format!("{package}.{}", service.name());
                schema.methods.extend(service.method.into_iter().map(|m| (service_name.clone(), m)));
            }
        }
        schema
    }

    fn add(&mut self, outer: &str, mut message: DescriptorProto) {
        let name = format!("{outer}.{}", message.name());
        for nested in std::mem::take(&mut message.nested_type) {
            self.add(&name, nested);
        }
        self.messages.insert(name, message);
    }

    /// The calls of these services.
    pub fn methods(&self, services: &[&str]) -> Vec<Method> {
        let all = self.methods.iter().filter(|(service, _)| services.contains(&service.as_str()));
        all.map(|(service, method)| Method {
            path: format!("/{service}/{}", method.name()),
            input: method.input_type().to_owned(),
            is_stream: method.client_streaming(),
        })
        .collect()
    }

    /// The number of a field.
    pub fn field(&self, message: &str, field: &str) -> u32 {
        let fields = &self.messages[message].field;
        let found = fields.iter().find(|f| f.name().eq_ignore_ascii_case(field));
        u32::try_from(found.unwrap_or_else(|| panic!("{message} has no {field}")).number()).expect("positive")
    }

    /// A message with every field set. `values` says what a field has instead, by the names of its message and
    /// itself; an empty list leaves it out.
    pub fn sample(&self, message: &str, values: &dyn Fn(&str, &str) -> Option<Vec<Value>>) -> Value {
        self.fill(message, values, DEPTH)
    }

    fn fill(&self, message: &str, values: &dyn Fn(&str, &str) -> Option<Vec<Value>>, depth: usize) -> Value {
        let mut fields = Vec::new();
        for field in &self.messages[message].field {
            let number = u32::try_from(field.number()).expect("positive");
            if let Some(given) = values(message, field.name()) {
                fields.extend(given.into_iter().map(|value| (number, value)));
                continue;
            }
            let value = match field.r#type() {
                Type::Message | Type::Group if depth == 0 => continue,
                Type::Message | Type::Group => self.fill(field.type_name(), values, depth - 1),
                Type::String | Type::Bytes => Value::Bytes(Bytes::from_static(b"x")),
                Type::Double | Type::Fixed64 | Type::Sfixed64 => Value::Fixed(WireType::SixtyFourBit),
                Type::Float | Type::Fixed32 | Type::Sfixed32 => Value::Fixed(WireType::ThirtyTwoBit),
                _ => Value::Number(1),
            };
            fields.push((number, value));
        }
        Value::Message(fields)
    }
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The fields of a message, or the bytes of a value of that kind.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Number(number) => encode_varint(*number, &mut out),
            Self::Fixed(kind) => out.resize(if *kind == WireType::SixtyFourBit { 8 } else { 4 }, 1),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Message(fields) => {
                for (number, value) in fields {
                    let encoded = value.encode();
                    match value {
                        Self::Number(_) => encode_key(*number, WireType::Varint, &mut out),
                        Self::Fixed(kind) => encode_key(*number, *kind, &mut out),
                        Self::Bytes(_) | Self::Message(_) => {
                            encode_key(*number, WireType::LengthDelimited, &mut out);
                            encode_varint(encoded.len() as u64, &mut out);
                        }
                    }
                    out.extend(encoded);
                }
            }
        }
        out
    }

    /// The value with one thing wrong, for each thing and place: fields that are not there, empty, twice, not
    /// text, not JSON, out of range.
    pub fn broken(&self) -> Vec<Self> {
        match self {
            Self::Number(_) => {
                [0, i64::MIN as u64, i64::MAX as u64, i32::MIN as i64 as u64, -1i64 as u64, i32::MAX as u64]
                    .map(Self::Number)
                    .to_vec()
            }
            Self::Fixed(_) => Vec::new(),
            Self::Bytes(_) => [
                &b""[..],
                b"\xff\xfe",
                b"\0",
                b"{",
                b"null",
                b"[null]",
                b"{\"Platforms\":[null]}",
                b"../../x",
            ]
            .map(|bytes| Self::Bytes(Bytes::from_static(bytes)))
            .to_vec(),
            Self::Message(fields) => {
                let mut all = vec![Self::Message(Vec::new()), Self::Bytes(Bytes::from_static(b"\x0a"))];
                for (at, (number, value)) in fields.iter().enumerate() {
                    let mut without = fields.clone();
                    without.remove(at);
                    all.push(Self::Message(without));
                    let mut twice = fields.clone();
                    twice.push((*number, value.clone()));
                    all.push(Self::Message(twice));
                    for broken in value.broken() {
                        let mut with = fields.clone();
                        with[at].1 = broken;
                        all.push(Self::Message(with));
                    }
                }
                all
            }
        }
    }
}

/// Calls a method with these bytes and waits for the first message or the end.
pub async fn call(channel: &Channel, path: &str, build: Option<&str>, body: Bytes) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone()).max_encoding_message_size(MAX_MESSAGE);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(futures::stream::iter([body]));
    if let Some(build) = build {
        request.metadata_mut().insert("buildkit-controlapi-buildid", build.parse().expect("an id"));
    }
    let response = grpc.streaming(request, path.parse().expect("a path"), RawCodec).await?;
    response.into_inner().message().await.map(drop)
}
