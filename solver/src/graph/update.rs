//! News on their way from inputs to consumers: keys, levels, results.

use std::sync::Arc;

use smallvec::SmallVec;

use super::node::{EdgeState, Probe, View};
use super::types::{Action, EdgeId, Level, Question};
use super::{Asked, Graph, PLAN, TWIN};
use crate::{ExportableKey, KeyDep, KeyId, KeyNode, LinkQuery, Parent, Record, root_key};

/// Inputs that are searched one by one for a key that all of them lead to.
const FEW: usize = 8;

impl Graph {
    /// Looks at everything that may be new to an edge.
    pub(super) fn update(&mut self, id: EdgeId) {
        if self.edge(id).is_none_or(|edge| edge.state.is_final()) {
            return;
        }
        self.queue(id, PLAN);
        let is_root = self.node(id.node).is_some_and(|node| node.inputs.is_empty());
        if is_root {
            self.update_root(id)
        } else {
            self.update_deps(id)
        }
        if self.edge(id).is_some_and(|edge| edge.asking > 0) {
            // The level follows when the answers are here: until then an input may seem to lead nowhere.
            return;
        }
        let level = self.level_of(id);
        if let Some(edge) = self.edge_mut(id)
            && level > edge.level
        {
            edge.level = level;
            self.notify(id);
        }
    }

    fn ask(&mut self, asked: Asked, question: Question) {
        if let Some(edge) = self.edge_mut(asked.edge()) {
            edge.asking += 1;
        }
        self.questions.push((asked.edge().node, question));
        self.asked.push(asked);
    }

    fn update_root(&mut self, id: EdgeId) {
        let Some(node) = self.node(id.node) else { return };
        let Some(edge) = node.edge(id.output) else { return };
        let (first, ignore) = (edge.maps_seen, node.ignore);
        let maps: SmallVec<[_; 2]> = node.maps.iter().skip(first).cloned().collect();
        if maps.is_empty() {
            return;
        }
        if let Some(edge) = self.edge_mut(id) {
            edge.maps_seen += maps.len();
        }
        self.queue(id, TWIN);
        for (place, map) in maps.iter().enumerate() {
            if !ignore {
                let question = Question::Key(root_key(&map.digest, Some(id.output)));
                self.ask(Asked::Root(id, first + place), question);
            }
        }
    }

    fn update_deps(&mut self, id: EdgeId) {
        let Some(edge) = self.edge_mut(id) else { return };
        let mut news = std::mem::take(&mut edge.news);
        news.sort_unstable();
        news.dedup();
        for input in news {
            self.update_dep(id, input);
            self.review(id, input);
        }
    }

    /// Asks the store about keys of an input that were not seen yet.
    fn update_dep(&mut self, id: EdgeId, input: u32) {
        let place = input as usize;
        let Some(node) = self.node(id.node) else { return };
        let Some(map) = node.maps.first().map(Arc::clone) else { return };
        let ignore = node.ignore;
        let Some(dep) = node.edge(id.output).and_then(|edge| edge.deps.get(place)) else { return };
        let target = self.find(dep.target);
        let moved = target != dep.target;
        let seen = if moved { 0 } else { dep.keys_seen };
        let Some(below) = self.edge(target) else { return };
        let is_done = below.level == Level::Complete;
        let fresh = below.keys.len() > seen;
        let content = match node.contents.get(place).and_then(|work| work.done()) {
            Some(digest) if dep.content == Probe::Open => Some(digest.clone()),
            _ => None,
        };
        if !moved && !fresh && content.is_none() && (!is_done || dep.done_seen) {
            return;
        }
        let query = |parents| LinkQuery { input, digest: map.digest.clone(), output: id.output, parents };
        let selector = map.deps.get(place).and_then(|dep| dep.selector.clone());
        let mut queries: SmallVec<[_; 2]> = SmallVec::new();
        if fresh && !ignore {
            let parents = below.keys.iter().skip(seen);
            let parents = parents.map(|key| Parent { key: key.id().clone(), selector: selector.clone() });
            queries.push((query(parents.collect()), false));
        }
        if let Some(Some(digest)) = &content
            && !ignore
        {
            let parent = Parent { key: root_key(digest, None), selector: None };
            queries.push((query(vec![parent]), true));
        }
        let count = below.keys.len();
        let Some(dep) = self.edge_mut(id).and_then(|edge| edge.deps.get_mut(place)) else { return };
        dep.target = target;
        dep.keys_seen = count;
        dep.done_seen = is_done;
        if content.is_some() {
            dep.content = Probe::Done;
        }
        for (query, content) in queries {
            self.ask(Asked::Links(id, input, content), Question::Links(query));
        }
        self.queue(id, TWIN);
    }

    /// Counts an input as it is now.
    fn review(&mut self, id: EdgeId, input: u32) {
        let view = self.view(id, input as usize);
        let Some(edge) = self.edge_mut(id) else { return };
        edge.stale.push(input);
        if let Some(dep) = edge.deps.get_mut(input as usize) {
            let old = std::mem::replace(&mut dep.view, view);
            edge.counts.change(old, view);
        }
    }

    fn view(&self, id: EdgeId, input: usize) -> View {
        let Some(node) = self.node(id.node) else { return View::default() };
        let Some(dep) = node.edge(id.output).and_then(|edge| edge.deps.get(input)) else {
            return View::default();
        };
        let below = self.edge(self.find(dep.target));
        let level = below.map_or(Level::Nothing, |below| below.level);
        let work = node.contents.get(input).and_then(|work| work.done());
        let map = node.maps.first().and_then(|map| map.deps.get(input));
        let (content, prepare) = map.map_or((false, false), |dep| (dep.content, dep.prepare));
        let has_keys = below.is_some_and(|below| {
            !below.keys.is_empty() || matches!(&below.state, EdgeState::Done { keys, .. } if !keys.is_empty())
        });
        View {
            level,
            matched: !dep.matches.is_empty(),
            exhausted: if content { dep.content == Probe::Done } else { level >= Level::Slow },
            open_content: content && work.is_none(),
            open_work: (content || prepare) && work.is_none(),
            keyed: has_keys || matches!(work, Some(Some(_))),
        }
    }

    /// How much is known of an edge that has no result yet.
    fn level_of(&self, id: EdgeId) -> Level {
        let Some(node) = self.node(id.node) else { return Level::Nothing };
        let Some(edge) = node.edge(id.output) else { return Level::Nothing };
        if node.ignore {
            // It has no keys to offer before it ran, so there is nothing to wait for.
            return Level::Slow;
        }
        if node.inputs.is_empty() {
            let known = node.maps_done() || !edge.keys.is_empty();
            return if known { Level::Slow } else { Level::Nothing };
        }
        if node.maps.is_empty() {
            return Level::Nothing;
        }
        let counts = edge.counts;
        if counts.dead > 0 || counts.open == 0 {
            Level::Slow
        } else if counts.below_fast == 0 || counts.missed > 0 {
            Level::Fast
        } else {
            Level::Nothing
        }
    }

    /// Takes in the keys that an input leads to.
    pub(super) fn links_found(&mut self, id: EdgeId, input: u32, content: bool, found: &[Vec<KeyId>]) {
        self.news_of(id, input);
        let Some(map) = self.node(id.node).and_then(|node| node.maps.first().cloned()) else { return };
        let Some(edge) = self.edge_mut(id) else { return };
        let Some(dep) = edge.deps.get_mut(input as usize) else { return };
        if edge.state.is_final() {
            return;
        }
        let mut all: Vec<KeyId> = found.iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        let mut fresh: SmallVec<[KeyId; 2]> = SmallVec::new();
        for key in &all {
            if let Err(at) = dep.matches.binary_search(key) {
                dep.matches.insert(at, key.clone());
                fresh.push(key.clone());
            }
        }
        let inputs = edge.deps.len();
        let (hits, deps) = (&mut edge.hits, &edge.deps);
        let common: SmallVec<[KeyId; 2]> = fresh
            .into_iter()
            .filter(|key| {
                if inputs <= FEW {
                    return deps.iter().all(|dep| dep.matches.binary_search(key).is_ok());
                }
                let count = hits.get_or_insert_default().entry(key.clone()).or_insert(0);
                *count += 1;
                *count as usize == inputs
            })
            .filter(|key| edge.keys.iter().all(|old| old.id() != key))
            .collect();
        for key in common {
            self.ask(Asked::Records(id, key.clone()), Question::Key(key));
        }
        self.link_siblings(id, input, content, &all, &map.digest);
    }

    /// Keys of one input are keys of the same thing: what one leads to, all lead to. After a match by
    /// content this is what lets the next build match by definition.
    fn link_siblings(
        &mut self,
        id: EdgeId,
        input: u32,
        content: bool,
        all: &[KeyId],
        digest: &buildkit_util_cachedigest::Digest,
    ) {
        let parents: Vec<Parent> = self
            .dep_keys(id, input as usize)
            .into_iter()
            .filter(|dep| dep.key.output.is_some())
            .map(|dep| Parent { key: dep.key.id().clone(), selector: dep.selector })
            .collect();
        if parents.is_empty() || (!content && parents.len() < 2) {
            return;
        }
        for key in all {
            let query =
                LinkQuery { input, digest: digest.clone(), output: id.output, parents: parents.clone() };
            self.out.push(Action::Link(query, key.clone()));
        }
    }

    /// All keys that an input is known by: those it offers, those of its result, its content.
    pub(super) fn dep_keys(&self, id: EdgeId, input: usize) -> Vec<KeyDep> {
        let mut keys: Vec<KeyDep> = Vec::new();
        let Some(node) = self.node(id.node) else { return keys };
        let Some(edge) = node.edge(id.output) else { return keys };
        let Some(dep) = edge.deps.get(input) else { return keys };
        let selector =
            node.maps.first().and_then(|map| map.deps.get(input)).and_then(|dep| dep.selector.clone());
        if let Some(below) = self.edge(self.find(dep.target)) {
            let own = match &below.state {
                EdgeState::Done { keys, .. } => keys.as_slice(),
                _ => &[],
            };
            for key in below.keys.iter().chain(own) {
                if !keys.iter().any(|old| old.key.id() == key.id()) {
                    keys.push(KeyDep { key: key.clone(), selector: selector.clone() });
                }
            }
        }
        if let Some(Some(digest)) = node.contents.get(input).and_then(|work| work.done()) {
            keys.push(KeyDep { key: ExportableKey::content(digest.clone()), selector: None });
        }
        keys
    }

    /// As [`dep_keys`](Self::dep_keys) of all inputs, with those of the edges that merged into this.
    pub(super) fn all_dep_keys(&self, id: EdgeId) -> Vec<Vec<KeyDep>> {
        let Some(edge) = self.edge(id) else { return Vec::new() };
        let mut all: Vec<Vec<KeyDep>> = (0..edge.deps.len()).map(|input| self.dep_keys(id, input)).collect();
        add_extra(&mut all, &edge.extra);
        all
    }

    pub(super) fn add_root_key(&mut self, id: EdgeId, map: usize, records: Vec<Record>) {
        let Some(digest) =
            self.node(id.node).and_then(|node| node.maps.get(map)).map(|map| map.digest.clone())
        else {
            return;
        };
        let key = root_key(&digest, Some(id.output));
        self.add_known_key(id, key, digest, Vec::new(), records);
    }

    pub(super) fn add_matched_key(&mut self, id: EdgeId, key: KeyId, records: Vec<Record>) {
        let Some(digest) =
            self.node(id.node).and_then(|node| node.maps.first()).map(|map| map.digest.clone())
        else {
            return;
        };
        let deps = self.all_dep_keys(id);
        self.add_known_key(id, key, digest, deps, records);
    }

    fn add_known_key(
        &mut self,
        id: EdgeId,
        key: KeyId,
        digest: buildkit_util_cachedigest::Digest,
        deps: Vec<Vec<KeyDep>>,
        records: Vec<Record>,
    ) {
        let Some(node) = self.node(id.node) else { return };
        let key = ExportableKey::new(KeyNode {
            id: key,
            digest,
            output: Some(id.output),
            vertex: Some(node.vertex.clone()),
            export: node.export,
            deps,
        });
        self.add_key(id, key, records);
    }
}

/// Adds parents of merged edges to those of a key.
pub(super) fn add_extra(deps: &mut [Vec<KeyDep>], extra: &[(u32, KeyDep)]) {
    for (input, dep) in extra {
        if let Some(deps) = deps.get_mut(*input as usize)
            && !deps.iter().any(|old| old.key.id() == dep.key.id() && old.selector == dep.selector)
        {
            deps.push(dep.clone());
        }
    }
}
