//! A table of field numbers and kinds, for code that walks encoded messages.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Context, Result, bail};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// Rust code of the table for all messages of `package`.
///
/// Messages are listed by name and refer to each other by index; fields are
/// in the order of their numbers.
pub(crate) fn code(package: &str, descriptors: &FileDescriptorSet) -> Result<String> {
    let mut messages = BTreeMap::new();
    for file in descriptors.file.iter().filter(|file| file.package() == package) {
        for message in &file.message_type {
            collect(&format!(".{package}"), message, &mut messages);
        }
    }
    let index: BTreeMap<&str, usize> =
        messages.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();

    let mut out = String::new();
    for (name, at) in &index {
        let constant = name.trim_start_matches(&format!(".{package}.")).replace('.', "_").to_uppercase();
        if constant == "OP" {
            writeln!(out, "pub(crate) const {constant}: usize = {at};")?;
        }
    }
    writeln!(out, "pub(crate) static MESSAGES: &[Message] = &[")?;
    for (name, message) in &messages {
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        writeln!(out, "Message {{ name: \"{}\", fields: &[", name.trim_start_matches('.'))?;
        for field in fields {
            writeln!(
                out,
                "Field {{ number: {}, kind: {}, rule: {} }},",
                field.number(),
                kind(field, &index)?,
                rule(field, &messages)?
            )?;
        }
        writeln!(out, "] }},")?;
    }
    writeln!(out, "];")?;
    Ok(out)
}

fn collect<'a>(
    scope: &str,
    message: &'a DescriptorProto,
    messages: &mut BTreeMap<String, &'a DescriptorProto>,
) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, messages);
    }
    messages.insert(name, message);
}

fn kind(field: &FieldDescriptorProto, index: &BTreeMap<&str, usize>) -> Result<String> {
    Ok(match field.r#type() {
        Type::Bool => "Kind::Bool".into(),
        Type::Int32 | Type::Enum => "Kind::Int32".into(),
        Type::Uint32 => "Kind::Uint32".into(),
        Type::Int64 | Type::Uint64 => "Kind::Int64".into(),
        Type::String => "Kind::String".into(),
        Type::Bytes => "Kind::Bytes".into(),
        Type::Message => {
            let at = index
                .get(field.type_name())
                .with_context(|| format!("`{}` is of another package", field.type_name()))?;
            format!("Kind::Message({at})")
        }
        other => bail!("Field `{}` has type {other:?}, which LLB does not use", field.name()),
    })
}

fn rule(field: &FieldDescriptorProto, messages: &BTreeMap<String, &DescriptorProto>) -> Result<String> {
    if field.label() == Label::Repeated {
        let is_map = messages
            .get(field.type_name())
            .and_then(|message| message.options.as_ref())
            .is_some_and(|options| options.map_entry());
        let packable = !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message);
        return Ok(match (is_map, packable) {
            (true, _) => "Rule::Map".into(),
            (_, true) => "Rule::Packed".into(),
            _ => "Rule::Repeated".into(),
        });
    }
    Ok(match field.oneof_index {
        Some(group) => format!("Rule::Oneof({group})"),
        None => "Rule::Singular".into(),
    })
}
