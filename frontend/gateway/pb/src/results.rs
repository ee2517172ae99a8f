//! Results of builds between their message and their type, whose refs are still those of the wire.

use buildkit_solver_result::{Attestation, AttestationKind, BuildResult, Refs, Subject, SubjectKind};

use crate as pb;

/// A message holds a number that stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// The kind of an attestation.
    #[error("unknown attestation kind {0}")]
    AttestationKind(i32),
    /// The kind of what an attestation is about.
    #[error("unknown attestation subject kind {0}")]
    SubjectKind(i32),
}

/// The result that a message holds. A ref without an id is an empty tree.
///
/// # Errors
/// When an attestation is of a kind that there is not.
pub fn from_message(message: pb::Result) -> Result<BuildResult<pb::Ref>, ResultError> {
    let some = |reference: pb::Ref| (!reference.id.is_empty()).then_some(reference);
    let of_id = |id: String| some(pb::Ref { id, def: None });
    let refs = match message.result {
        None => Refs::Single(None),
        Some(pb::result::Result::RefDeprecated(id)) => Refs::Single(of_id(id)),
        Some(pb::result::Result::Ref(reference)) => Refs::Single(some(reference)),
        Some(pb::result::Result::RefsDeprecated(map)) => {
            Refs::Many(map.refs.into_iter().map(|(key, id)| (key, of_id(id))).collect())
        }
        Some(pb::result::Result::Refs(map)) => {
            Refs::Many(map.refs.into_iter().map(|(key, reference)| (key, some(reference))).collect())
        }
    };
    let attestations = message.attestations.into_iter().map(|(key, list)| {
        let list = list.attestation.into_iter().map(attestation_from_message);
        Ok((key, list.collect::<Result<_, _>>()?))
    });
    Ok(BuildResult {
        refs,
        metadata: message.metadata,
        attestations: attestations.collect::<Result<_, _>>()?,
    })
}

/// The message of a result. Who does not know of definitions of refs (`with_definitions`) gets their ids alone.
pub fn to_message(result: BuildResult<pb::Ref>, with_definitions: bool) -> pb::Result {
    let refs = match (result.refs, with_definitions) {
        (Refs::Single(reference), true) => pb::result::Result::Ref(reference.unwrap_or_default()),
        (Refs::Single(reference), false) => {
            pb::result::Result::RefDeprecated(reference.unwrap_or_default().id)
        }
        (Refs::Many(refs), true) => {
            let refs = refs.into_iter().map(|(key, reference)| (key, reference.unwrap_or_default()));
            pb::result::Result::Refs(pb::RefMap { refs: refs.collect() })
        }
        (Refs::Many(refs), false) => {
            let refs = refs.into_iter().map(|(key, reference)| (key, reference.unwrap_or_default().id));
            pb::result::Result::RefsDeprecated(pb::RefMapDeprecated { refs: refs.collect() })
        }
    };
    let attestations = result.attestations.into_iter().map(|(key, list)| {
        let attestation = list.into_iter().map(attestation_to_message).collect();
        (key, pb::Attestations { attestation })
    });
    pb::Result { metadata: result.metadata, attestations: attestations.collect(), result: Some(refs) }
}

fn attestation_from_message(message: pb::Attestation) -> Result<Attestation<pb::Ref>, ResultError> {
    let kind = match pb::AttestationKind::try_from(message.kind) {
        Ok(pb::AttestationKind::InToto) => AttestationKind::InToto,
        Ok(pb::AttestationKind::Bundle) => AttestationKind::Bundle,
        Err(_) => return Err(ResultError::AttestationKind(message.kind)),
    };
    let subjects = message.in_toto_subjects.into_iter().map(|subject| {
        let kind = match pb::InTotoSubjectKind::try_from(subject.kind) {
            Ok(pb::InTotoSubjectKind::Self_) => SubjectKind::Tree,
            Ok(pb::InTotoSubjectKind::Raw) => SubjectKind::Raw,
            Err(_) => return Err(ResultError::SubjectKind(subject.kind)),
        };
        Ok(Subject { kind, name: subject.name, digests: subject.digest })
    });
    Ok(Attestation {
        kind,
        metadata: message.metadata,
        reference: message.r#ref.filter(|reference| !reference.id.is_empty()),
        path: message.path,
        predicate_type: message.in_toto_predicate_type,
        subjects: subjects.collect::<Result<_, _>>()?,
    })
}

fn attestation_to_message(attestation: Attestation<pb::Ref>) -> pb::Attestation {
    let kind = match attestation.kind {
        AttestationKind::InToto => pb::AttestationKind::InToto,
        AttestationKind::Bundle => pb::AttestationKind::Bundle,
    };
    let subjects = attestation.subjects.into_iter().map(|subject| {
        let kind = match subject.kind {
            SubjectKind::Tree => pb::InTotoSubjectKind::Self_,
            SubjectKind::Raw => pb::InTotoSubjectKind::Raw,
        };
        pb::InTotoSubject { kind: kind.into(), name: subject.name, digest: subject.digests }
    });
    pb::Attestation {
        kind: kind.into(),
        metadata: attestation.metadata,
        r#ref: Some(attestation.reference.unwrap_or_default()),
        path: attestation.path,
        in_toto_predicate_type: attestation.predicate_type,
        in_toto_subjects: subjects.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn reference(id: &str) -> pb::Ref {
        pb::Ref { id: id.to_owned(), def: None }
    }

    fn result() -> BuildResult<pb::Ref> {
        let attestation = Attestation {
            kind: AttestationKind::Bundle,
            metadata: BTreeMap::from([("reason".to_owned(), "wanted".into())]),
            reference: Some(reference("c")),
            path: "/statements".to_owned(),
            predicate_type: "https://example.org/predicate".to_owned(),
            subjects: vec![Subject {
                kind: SubjectKind::Raw,
                name: "name".to_owned(),
                digests: vec!["sha256:00".to_owned()],
            }],
        };
        let refs = [("linux/amd64".to_owned(), Some(reference("a"))), ("linux/arm64".to_owned(), None)];
        BuildResult {
            refs: Refs::Many(refs.into()),
            metadata: BTreeMap::from([("key".to_owned(), "value".into())]),
            attestations: BTreeMap::from([("linux/amd64".to_owned(), vec![attestation])]),
        }
    }

    #[test]
    fn results_come_back_as_they_were() {
        for with_definitions in [true, false] {
            let message = to_message(result(), with_definitions);
            assert_eq!(from_message(message), Ok(result()));
            for single in [Some(reference("a")), None] {
                let single = BuildResult::single(single);
                assert_eq!(from_message(to_message(single.clone(), with_definitions)), Ok(single));
            }
        }
    }

    #[test]
    fn kinds_that_are_not_known_are_refused() {
        let mut message = to_message(result(), true);
        let attestation = &mut message.attestations.get_mut("linux/amd64").expect("a list").attestation[0];
        attestation.in_toto_subjects[0].kind = 9;
        assert_eq!(from_message(message.clone()), Err(ResultError::SubjectKind(9)));
        let attestation = &mut message.attestations.get_mut("linux/amd64").expect("a list").attestation[0];
        attestation.kind = 7;
        assert_eq!(from_message(message), Err(ResultError::AttestationKind(7)));
    }
}
