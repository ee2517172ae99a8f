//! Wishes on their way from consumers to inputs: which rung of the ladder is next.

use smallvec::{SmallVec, smallvec};

use super::events::internal;
use super::node::{EdgeState, Need, Probe, Work};
use super::types::{Action, EdgeId, Failure, Finished, Level, MapInfo};
use super::{Graph, UPDATE};

/// An input as the ladder sees it.
#[derive(Clone, Copy)]
struct View {
    level: Level,
    /// Some key of it leads to a key in the store.
    matched: bool,
    /// All keys it can ever give are known.
    exhausted: bool,
    /// Has a content function that was not used yet.
    open_content: bool,
    /// Has a preparation or content function that did not run yet.
    open_work: bool,
}

/// What an edge wants of one input.
#[derive(Clone, Copy, Default)]
struct Wish {
    level: Level,
    /// Prepare it and make its content digest, once it is complete.
    work: bool,
}

impl Graph {
    /// Decides what an edge needs next, and answers those who wait for it.
    pub(super) fn plan(&mut self, id: EdgeId) {
        let Some(edge) = self.edge(id) else { return };
        match &edge.state {
            EdgeState::Merged(_) => return self.apply(id, Need::Nothing, &[]),
            EdgeState::Done { output, keys, .. } => {
                let finished = Finished { output: *output, keys: keys.clone() };
                self.respond(id, &Ok(finished));
                return self.apply(id, Need::Nothing, &[]);
            }
            EdgeState::Failed(failure) => {
                let failure = failure.clone();
                self.respond(id, &Err(failure));
                return self.apply(id, Need::Nothing, &[]);
            }
            EdgeState::Loading(..) => {
                let need = if edge.wanted() == Level::Complete { Need::Load } else { Need::Nothing };
                return self.apply(id, need, &[]);
            }
            EdgeState::StopLoading(..) | EdgeState::Saving(..) => return self.apply(id, Need::Nothing, &[]),
            EdgeState::Searching => {}
        }
        let wanted = edge.wanted();
        let (need, wishes) = self.climb(id, wanted);
        match self.failure(id, need, &wishes) {
            Some(failure) => self.fail(id, failure),
            None => {
                self.apply(id, need, &wishes);
                if !self.makes_progress(id, wanted, need, &wishes) {
                    self.fail(id, internal("Solver made no progress on a vertex that is wanted"));
                }
            }
        }
    }

    fn climb(&self, id: EdgeId, wanted: Level) -> (Need, SmallVec<[Wish; 4]>) {
        let Some(node) = self.node(id.node) else { return (Need::Nothing, smallvec![]) };
        let Some(edge) = node.edge(id.output) else { return (Need::Nothing, smallvec![]) };
        let nothing = (Need::Nothing, smallvec![]);
        if wanted == Level::Nothing || (wanted < Level::Complete && wanted <= edge.level) {
            return nothing;
        }
        if wanted == Level::Complete && !edge.records.is_empty() {
            return (Need::Load, smallvec![]);
        }
        if node.inputs.is_empty() {
            return match (node.maps_done(), wanted) {
                (false, _) => (Need::Map, smallvec![]),
                (true, Level::Complete) => (Need::Exec, smallvec![]),
                (true, _) => nothing,
            };
        }
        let views: SmallVec<[View; 4]> = (0..edge.deps.len()).map(|input| self.view(id, input)).collect();
        if node.ignore {
            // Only its result is of use, and for that all inputs are needed.
            let need = if node.maps.is_empty() { Need::Map } else { Need::Nothing };
            return self.run(need, &views);
        }
        if node.maps.is_empty() {
            let wishes = views.iter().map(|_| Wish { level: Level::Fast, work: false }).collect();
            return (Need::Map, wishes);
        }
        if views.iter().any(|view| view.exhausted && !view.matched)
            || (views.iter().all(|view| view.exhausted) && wanted == Level::Complete)
        {
            return self.run(Need::Nothing, &views);
        }
        let below_fast = views.iter().any(|view| view.level < Level::Fast);
        let below_slow = views.iter().any(|view| view.level < Level::Slow);
        let unmatched = views.iter().any(|view| !view.matched);
        let unmatched_below_slow = views.iter().any(|view| !view.matched && view.level < Level::Slow);
        let wishes = views.iter().map(|view| {
            let content = Wish { level: Level::Complete, work: view.open_content };
            let level = |level| Wish { level, work: false };
            if view.level < Level::Fast {
                level(Level::Fast)
            } else if !view.matched {
                if view.level < Level::Slow || (wanted == Level::Slow && (below_fast || unmatched_below_slow)) {
                    level(Level::Slow)
                } else {
                    content
                }
            } else if below_fast || unmatched {
                // Those without a match decide first.
                level(Level::Fast)
            } else if below_slow || !view.open_content {
                level(Level::Slow)
            } else {
                content
            }
        });
        (Need::Nothing, wishes.collect())
    }

    /// The wishes of an edge that no key can help any more.
    fn run(&self, need: Need, views: &[View]) -> (Need, SmallVec<[Wish; 4]>) {
        let wishes = views.iter().map(|view| Wish { level: Level::Complete, work: view.open_work }).collect();
        let ready = views.iter().all(|view| view.level == Level::Complete && !view.open_work);
        (if need == Need::Nothing && ready { Need::Exec } else { need }, wishes)
    }

    fn view(&self, id: EdgeId, input: usize) -> View {
        let blank =
            View { level: Level::Nothing, matched: false, exhausted: false, open_content: false, open_work: false };
        let Some(node) = self.node(id.node) else { return blank };
        let Some(dep) = node.edge(id.output).and_then(|edge| edge.deps.get(input)) else { return blank };
        let level = self.edge(self.find(dep.target)).map_or(Level::Nothing, |below| below.level);
        let worked = matches!(node.contents.get(input), Some(Work::Done(_)));
        let info = node.maps.first().map(|map: &std::sync::Arc<MapInfo>| map.deps.get(input));
        let info = info.flatten().cloned().unwrap_or_default();
        View {
            level,
            matched: !dep.matches.is_empty(),
            exhausted: if info.content { dep.content == Probe::Done } else { level >= Level::Slow },
            open_content: info.content && !worked,
            open_work: (info.content || info.prepare) && !worked,
        }
    }

    /// A failure of something that the edge needs.
    fn failure(&self, id: EdgeId, need: Need, wishes: &[Wish]) -> Option<Failure> {
        let node = self.node(id.node)?;
        let edge = node.edge(id.output)?;
        for (input, (wish, dep)) in wishes.iter().zip(&edge.deps).enumerate() {
            if wish.level > Level::Nothing
                && let Some(below) = self.edge(self.find(dep.target))
                && let EdgeState::Failed(failure) = &below.state
            {
                return Some(failure.clone());
            }
            if wish.work
                && let Some(Work::Failed(failure)) = node.contents.get(input)
            {
                return Some(failure.clone());
            }
        }
        match (need, &node.mapping, &node.exec) {
            (Need::Map, Work::Failed(failure), _) | (Need::Exec, _, Work::Failed(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Whether there is something to wait for, if somebody waits.
    fn makes_progress(&self, id: EdgeId, wanted: Level, need: Need, wishes: &[Wish]) -> bool {
        let Some(edge) = self.edge(id) else { return true };
        let level = if wanted == Level::Complete { Level::Slow } else { edge.level };
        wanted <= level
            || need != Need::Nothing
            || wishes.iter().zip(&edge.deps).any(|(wish, dep)| {
                wish.work || self.edge(self.find(dep.target)).is_none_or(|below| wish.level > below.level)
            })
    }

    pub(super) fn fail(&mut self, id: EdgeId, failure: Failure) {
        if let Some(edge) = self.edge_mut(id) {
            edge.state = EdgeState::Failed(failure);
        }
        self.index.forget(id);
        self.notify(id);
        self.queue(id, super::PLAN);
    }

    fn respond(&mut self, id: EdgeId, result: &Result<Finished, Failure>) {
        let Some(edge) = self.edge_mut(id) else { return };
        let requests = std::mem::take(&mut edge.requests);
        edge.wants[Level::Complete as usize] -= requests.len() as u32;
        for request in requests {
            self.requests.remove(&request);
            self.out.push(Action::Respond(request, result.clone()));
        }
    }

    /// Puts what an edge needs into force.
    fn apply(&mut self, id: EdgeId, need: Need, wishes: &[Wish]) {
        let Some(edge) = self.edge_mut(id) else { return };
        let mut touched = edge.need != need || need != Need::Nothing || matches!(edge.state, EdgeState::Loading(..));
        edge.need = need;
        let mut changes: SmallVec<[(usize, Level); 4]> = SmallVec::new();
        for (input, dep) in edge.deps.iter_mut().enumerate() {
            let wish = wishes.get(input).copied().unwrap_or_default();
            // Work on an input starts when the input is complete, which changes no wish.
            touched |= dep.need || wish.work;
            dep.need = wish.work;
            if dep.want != wish.level {
                changes.push((input, wish.level));
            }
        }
        for (input, level) in changes {
            self.want(id, input, level);
        }
        if touched {
            self.touch(id.node);
        }
    }

    /// Takes back everything that an edge wants.
    pub(super) fn drop_wants(&mut self, id: EdgeId) {
        self.apply(id, Need::Nothing, &[]);
    }

    fn want(&mut self, id: EdgeId, input: usize, level: Level) {
        let Some(dep) = self.edge(id).and_then(|edge| edge.deps.get(input)) else { return };
        let (old, raw, told) = (dep.want, dep.target, dep.told);
        self.ensure_edge(raw);
        let target = self.find(raw);
        if let Some(below) = self.edge_mut(target) {
            if let Some(count) = below.wants.get_mut(old as usize)
                && old > Level::Nothing
            {
                *count -= 1;
            }
            if let Some(count) = below.wants.get_mut(level as usize)
                && level > Level::Nothing
            {
                *count += 1;
            }
            if !told {
                below.consumers.push(id);
            }
        }
        if !told {
            self.tidy_consumers(target);
        }
        if let Some(dep) = self.edge_mut(id).and_then(|edge| edge.deps.get_mut(input)) {
            dep.want = level;
            dep.told = true;
        }
        self.queue(target, super::PLAN);
        if !told {
            self.queue(id, UPDATE);
        }
    }

    /// Drops consumers that are gone from the list of an edge that lives long.
    fn tidy_consumers(&mut self, id: EdgeId) {
        let Some(edge) = self.edge_mut(id) else { return };
        if edge.consumers.len() < 32 || !edge.consumers.len().is_power_of_two() {
            return;
        }
        let consumers = std::mem::take(&mut edge.consumers);
        let living = consumers.into_iter().filter(|id| self.edge(*id).is_some_and(|edge| !edge.state.is_final()));
        let living = living.collect();
        if let Some(edge) = self.edge_mut(id) {
            edge.consumers = living;
        }
    }
}
