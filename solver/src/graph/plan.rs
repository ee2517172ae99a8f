//! Wishes on their way from consumers to inputs: which rung of the ladder is next.

use smallvec::SmallVec;

use super::Graph;
use super::events::internal;
use super::node::{EdgeState, Mode, Need, View, Work};
use super::types::{Action, EdgeId, Failure, Finished, Level};

/// Edges with more inputs are looked at as a whole only when their mode changes.
const FEW: usize = 64;

/// What an edge wants of one input.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Wish {
    level: Level,
    /// Prepare it and make its content digest, once it is complete.
    work: bool,
}

impl Mode {
    /// The next rung for an input.
    fn wish(self, view: View) -> Wish {
        let level = |level| Wish { level, work: false };
        match self {
            Self::Rest => Wish::default(),
            Self::Begin => level(Level::Fast),
            Self::Run => Wish { level: Level::Complete, work: view.open_work },
            Self::Climb { keys_only, below_fast, below_slow, unmatched, unmatched_below_slow } => {
                let content = Wish { level: Level::Complete, work: view.open_content };
                if view.level < Level::Fast {
                    level(Level::Fast)
                } else if !view.matched {
                    if view.level < Level::Slow || (keys_only && (below_fast || unmatched_below_slow)) {
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
            }
        }
    }
}

impl Graph {
    /// Decides what an edge needs next, and answers those who wait for it.
    pub(super) fn plan(&mut self, id: EdgeId) {
        let Some(edge) = self.edge(id) else { return };
        let wanted = edge.wanted();
        let (need, mode) = match &edge.state {
            EdgeState::Done { output, keys, .. } => {
                if !edge.requests.is_empty() {
                    let finished = Finished { output: *output, keys: keys.clone() };
                    self.respond(id, &Ok(finished));
                }
                (Need::Nothing, Mode::Rest)
            }
            EdgeState::Failed(failure) => {
                let failure = failure.clone();
                self.respond(id, &Err(failure));
                (Need::Nothing, Mode::Rest)
            }
            EdgeState::Loading(..) if wanted == Level::Complete => (Need::Load, Mode::Rest),
            EdgeState::Searching => self.climb(id, wanted),
            _ => (Need::Nothing, Mode::Rest),
        };
        if let Err(failure) = self.apply(id, need, mode) {
            self.fail(id, failure);
        } else if self.is_stuck(id) {
            self.fail(id, internal("Solver made no progress on a vertex that is wanted"));
        }
    }

    fn climb(&self, id: EdgeId, wanted: Level) -> (Need, Mode) {
        let nothing = (Need::Nothing, Mode::Rest);
        let Some(node) = self.node(id.node) else { return nothing };
        let Some(edge) = node.edge(id.output) else { return nothing };
        if wanted == Level::Nothing || (wanted < Level::Complete && wanted <= edge.level) {
            return nothing;
        }
        if wanted == Level::Complete && !edge.records.is_empty() {
            return (Need::Load, Mode::Rest);
        }
        if node.inputs.is_empty() {
            return match (node.maps_done(), wanted) {
                (false, _) => (Need::Map, Mode::Rest),
                (true, Level::Complete) => (Need::Exec, Mode::Rest),
                (true, _) => nothing,
            };
        }
        let counts = edge.counts;
        if node.maps.is_empty() {
            // Of one that ignores the cache only the result is of use, and for that all inputs are.
            return (Need::Map, if node.ignore { Mode::Run } else { Mode::Begin });
        }
        if node.ignore || counts.dead > 0 || (counts.open == 0 && wanted == Level::Complete) {
            return (if counts.unready == 0 { Need::Exec } else { Need::Nothing }, Mode::Run);
        }
        let mode = Mode::Climb {
            keys_only: wanted < Level::Complete,
            below_fast: counts.below_fast > 0,
            below_slow: counts.below_slow > 0,
            unmatched: counts.unmatched > 0,
            unmatched_below_slow: counts.unmatched_below_slow > 0,
        };
        (Need::Nothing, mode)
    }

    /// Whether somebody waits for an edge and the edge for nothing: a mistake of ours, which must
    /// not become a build that hangs.
    fn is_stuck(&self, id: EdgeId) -> bool {
        let Some(edge) = self.edge(id) else { return false };
        // With news to be looked at it plans again.
        let news = edge.queued.first().copied().unwrap_or_default();
        if news
            || !matches!(edge.state, EdgeState::Searching)
            || !self.waits(id)
            || edge.need != Need::Nothing
        {
            return false;
        }
        if edge.deps.len() > FEW {
            return edge.wishing == 0;
        }
        !edge.deps.iter().any(|dep| {
            dep.need || self.edge(self.find(dep.target)).is_none_or(|below| dep.want > below.level)
        })
    }

    /// Puts what an edge needs into force.
    ///
    /// # Errors
    /// The failure of something that the edge needs.
    fn apply(&mut self, id: EdgeId, need: Need, mode: Mode) -> Result<(), Failure> {
        let Some(node) = self.node(id.node) else { return Ok(()) };
        let failed = match (need, &node.mapping, &node.exec) {
            (Need::Map, Work::Failed(failure), _) | (Need::Exec, _, Work::Failed(failure)) => {
                Some(failure.clone())
            }
            _ => None,
        };
        if let Some(failure) = failed {
            return Err(failure);
        }
        let Some(edge) = self.edge_mut(id) else { return Ok(()) };
        let loading = matches!(edge.state, EdgeState::Loading(..));
        let mut touched = edge.need != need || matches!(need, Need::Load | Need::Exec | Need::Map) || loading;
        edge.need = need;
        let mut stale = std::mem::take(&mut edge.stale);
        if edge.mode != mode {
            edge.mode = mode;
            stale = if mode == Mode::Rest && edge.wishing == 0 {
                SmallVec::new()
            } else {
                (0..edge.deps.len() as u32).collect()
            };
        }
        for input in stale {
            touched |= self.apply_wish(id, input, mode)?;
        }
        if touched {
            self.touch(id.node);
        }
        Ok(())
    }

    /// Puts what an edge wants of one input into force; whether work is to start or stop.
    fn apply_wish(&mut self, id: EdgeId, input: u32, mode: Mode) -> Result<bool, Failure> {
        let place = input as usize;
        let Some(node) = self.node(id.node) else { return Ok(false) };
        let Some(dep) = node.edge(id.output).and_then(|edge| edge.deps.get(place)) else { return Ok(false) };
        let wish = mode.wish(dep.view);
        if wish.level > Level::Nothing
            && let Some(below) = self.edge(self.find(dep.target))
            && let EdgeState::Failed(failure) = &below.state
        {
            return Err(failure.clone());
        }
        if wish.work
            && let Some(Work::Failed(failure)) = node.contents.get(place)
        {
            return Err(failure.clone());
        }
        let (work, level) = (dep.need, dep.want);
        if let Some(dep) = self.edge_mut(id).and_then(|edge| edge.deps.get_mut(place)) {
            dep.need = wish.work;
        }
        if level != wish.level {
            self.want(id, input, wish.level);
        }
        // Work on an input starts when the input is complete, which changes no wish.
        let steer = work || wish.work;
        if steer && let Some(node) = self.node_mut(id.node) {
            node.steer.push(input);
        }
        Ok(steer)
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

    /// Takes back everything that an edge wants.
    pub(super) fn drop_wants(&mut self, id: EdgeId) {
        // Wishing nothing cannot fail.
        let _ = self.apply(id, Need::Nothing, Mode::Rest);
    }

    fn want(&mut self, id: EdgeId, input: u32, level: Level) {
        let place = input as usize;
        let Some(dep) = self.edge(id).and_then(|edge| edge.deps.get(place)) else { return };
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
                below.consumers.push((id, input));
            }
        }
        if !told {
            self.tidy_consumers(target);
        }
        if let Some(edge) = self.edge_mut(id)
            && let Some(dep) = edge.deps.get_mut(place)
        {
            dep.want = level;
            dep.told = true;
            edge.wishing = edge.wishing + u32::from(level > Level::Nothing) - u32::from(old > Level::Nothing);
        }
        self.queue(target, super::PLAN);
        if !told {
            self.news_of(id, input);
        }
    }

    /// Drops consumers that are gone from the list of an edge that lives long.
    fn tidy_consumers(&mut self, id: EdgeId) {
        let Some(edge) = self.edge_mut(id) else { return };
        if edge.consumers.len() < 32 || !edge.consumers.len().is_power_of_two() {
            return;
        }
        let consumers = std::mem::take(&mut edge.consumers);
        let living =
            consumers.into_iter().filter(|(id, _)| self.edge(*id).is_some_and(|edge| !edge.state.is_final()));
        let living = living.collect();
        if let Some(edge) = self.edge_mut(id) {
            edge.consumers = living;
        }
    }
}
