use std::collections::HashMap;

use buildkit_util_cachedigest::Digest;

use crate::{SolveStatus, Vertex};

/// Tells one reader of a build's progress of the steps that did not have to run.
///
/// Nothing happens to a step whose result nobody needs, because that of a later step is known. When a
/// step starts while one that it is made from has not ended, that one is reported as cached, and so
/// are those before it: people see that all of the graph is dealt with.
#[derive(Debug, Default)]
pub struct SkippedSteps {
    /// Steps as the reader knows them, without those that were found to be skipped.
    known: HashMap<Digest, Vertex>,
}

impl SkippedSteps {
    /// Adds what is skipped to the vertices of the next changes, before the steps that tell it.
    pub fn complete(&mut self, changes: &mut SolveStatus) {
        let mut all = Vec::with_capacity(changes.vertexes.len());
        for vertex in changes.vertexes.drain(..) {
            let mut skipped = self.before(&vertex);
            self.known.insert(vertex.digest.clone(), vertex.clone());
            while let Some(vertex) = skipped.pop() {
                all.push(vertex);
            }
            all.push(vertex);
        }
        changes.vertexes = all;
    }

    /// The steps that are skipped when this one starts, its own inputs first.
    fn before(&mut self, vertex: &Vertex) -> Vec<Vertex> {
        let mut skipped: Vec<Vertex> = Vec::new();
        let Some(started) = vertex.started else { return skipped };
        let mut inputs = vertex.inputs.clone();
        // Graphs may be deep, so this does not recurse.
        while let Some(input) = inputs.pop() {
            if self.known.get(&input).is_some_and(|known| !known.cached && known.completed.is_none())
                && let Some(mut known) = self.known.remove(&input)
            {
                known.cached = true;
                known.started = Some(started);
                known.completed = Some(started);
                inputs.extend(known.inputs.iter().cloned());
                skipped.push(known);
            }
        }
        skipped
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn vertex(name: &str, inputs: &[&str]) -> Vertex {
        Vertex {
            digest: Digest::sha256(name),
            inputs: inputs.iter().map(Digest::sha256).collect(),
            name: name.to_owned(),
            started: None,
            completed: None,
            cached: false,
            error: String::new(),
            progress_group: None,
        }
    }

    fn names(status: &SolveStatus) -> Vec<(&str, bool)> {
        status.vertexes.iter().map(|vertex| (vertex.name.as_str(), vertex.cached)).collect()
    }

    #[test]
    fn what_is_before_a_step_that_starts_is_cached() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let mut skipped = SkippedSteps::default();
        let mut loaded = SolveStatus {
            vertexes: vec![
                vertex("a", &[]),
                vertex("b", &["a"]),
                vertex("done", &[]),
                vertex("c", &["b", "done"]),
                vertex("d", &["c"]),
            ],
            ..SolveStatus::default()
        };
        skipped.complete(&mut loaded);
        assert_eq!(loaded.vertexes.len(), 5);
        let done = Vertex { started: Some(now), completed: Some(now), ..vertex("done", &[]) };
        let mut changes = SolveStatus { vertexes: vec![done], ..SolveStatus::default() };
        skipped.complete(&mut changes);
        let start = Vertex { started: Some(now), cached: true, ..vertex("c", &["b", "done"]) };
        changes.vertexes = vec![start];
        skipped.complete(&mut changes);
        assert_eq!(names(&changes), [("a", true), ("b", true), ("c", true)]);
        assert!(changes.vertexes.iter().all(|vertex| vertex.started == Some(now)));
        // Once only.
        changes.vertexes = vec![Vertex { completed: Some(now), ..changes.vertexes.pop().expect("c") }];
        skipped.complete(&mut changes);
        assert_eq!(names(&changes), [("c", true)]);
    }
}
