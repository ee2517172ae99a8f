//! What is known about a build, put together from its messages. No output, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZero;
use std::time::{Duration, SystemTime};

use buildkit_util_progress::{SolveStatus, Vertex, VertexLog, VertexStatus, VertexWarning};

use crate::interval::{Interval, merge};

/// How the error of a step ends that nobody wanted any more.
const CANCELED: &str = "context canceled";
/// Last lines of a step that are shown again when it failed.
const TAIL_LINES: usize = 10;
/// Columns beside a log window.
const WINDOW_PAD: usize = 10;

/// The window of a terminal, for the output of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) rows: NonZero<u16>,
    pub(crate) columns: NonZero<u16>,
}

impl Window {
    /// As many rows and, beside what surrounds them, columns; at least one of each.
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        let number = |n: usize| u16::try_from(n).ok().and_then(NonZero::new);
        Self {
            rows: number(rows).unwrap_or(NonZero::<u16>::MIN),
            columns: number(width.saturating_sub(WINDOW_PAD)).unwrap_or(NonZero::<u16>::MIN),
        }
    }
}

#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<Step>,
    /// By digest of a vertex; members of a group lead to the group's step.
    by_digest: HashMap<String, usize>,
    groups: HashMap<String, Group>,
    /// Steps in the order in which they started.
    pub(crate) started: Vec<usize>,
    /// Steps with something new to print.
    pub(crate) updated: BTreeSet<usize>,
    pub(crate) start: Option<SystemTime>,
    /// How far this machine's clock is ahead of the daemon's.
    clock: Option<Clock>,
    /// Whether the whole output is kept, or only the last lines of what was taken.
    window: Option<Window>,
}

/// A difference of clocks.
#[derive(Clone, Copy)]
struct Clock {
    by: Duration,
    behind: bool,
}

struct Group {
    step: usize,
    members: BTreeMap<String, Vertex>,
}

/// A vertex, or a group of vertices that is shown as one.
#[derive(Default)]
pub(crate) struct Step {
    /// Number in plain output; 0 is none yet.
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) cached: bool,
    pub(crate) error: String,
    /// A group of which no member that matters has started.
    pub(crate) hidden: bool,
    previous: Option<Vertex>,
    intervals: BTreeMap<SystemTime, Option<SystemTime>>,
    pub(crate) merged: Vec<Interval>,

    pub(crate) statuses: HashMap<String, VertexStatus>,
    /// Ids of statuses in the order in which they started.
    pub(crate) status_order: Vec<String>,
    pub(crate) updated_statuses: BTreeSet<String>,

    /// Lines of output, in plain mode those that are not printed yet.
    pub(crate) logs: Vec<Vec<u8>>,
    /// Whether the last line goes on.
    pub(crate) partial: bool,
    /// Bytes of the first line that are printed.
    pub(crate) printed: usize,
    pub(crate) tail: VecDeque<Vec<u8>>,
    pub(crate) warnings: Vec<VertexWarning>,
    pub(crate) warnings_printed: usize,

    /// Changes since the step was last the active one, and since when.
    pub(crate) changes: u32,
    pub(crate) changes_since: Option<SystemTime>,

    pub(crate) terminal: Option<vt100::Parser>,
    pub(crate) terminal_bytes: usize,
    pub(crate) terminal_shown: usize,
}

impl Step {
    pub(crate) fn is_started(&self) -> bool {
        !self.merged.is_empty()
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.merged.last().is_some_and(|interval| interval.stop.is_some())
    }

    pub(crate) fn is_canceled(&self) -> bool {
        self.error.ends_with(CANCELED)
    }

    fn change(&mut self, now: SystemTime) {
        if self.changes == 0 {
            self.changes_since = Some(now);
        }
        self.changes += 1;
    }

    fn set_interval(&mut self, started: SystemTime, completed: Option<SystemTime>) -> bool {
        let changed = self.intervals.insert(started, completed) != Some(completed);
        if changed {
            let all = self.intervals.iter().map(|(&start, &stop)| Interval { start, stop });
            self.merged = merge(all);
        }
        changed
    }

    /// Whether anything that people see differs from the last message about the vertex.
    fn is_news(&self, vertex: &Vertex) -> bool {
        self.previous.as_ref().is_none_or(|old| {
            vertex.name != old.name
                || vertex.started != old.started
                || (vertex.completed != old.completed && vertex.completed.is_some())
                || vertex.cached != old.cached
                || vertex.error != old.error
        })
    }
}

impl Trace {
    pub(crate) fn new(window: Option<Window>) -> Self {
        Self { window, ..Self::default() }
    }

    pub(crate) fn set_window(&mut self, window: Window) {
        self.window = Some(window);
    }

    /// Takes a message in.
    pub(crate) fn update(&mut self, status: SolveStatus, now: SystemTime) {
        let mut groups = Vec::new();
        for vertex in status.vertexes {
            if self.start.is_none() {
                self.start = vertex.started;
            }
            match &vertex.progress_group {
                Some(group) if !groups.contains(&group.id) => groups.push(group.id.clone()),
                _ => {}
            }
            if vertex.progress_group.is_some() {
                self.add_member(vertex);
            } else {
                self.update_vertex(vertex, now);
            }
        }
        for group in groups {
            self.refresh_group(&group, now);
        }
        for status in status.statuses {
            self.update_status(status, now);
        }
        for warning in status.warnings {
            if let Some(step) = self.step_of(warning.vertex.as_str()) {
                let step = &mut self.steps[step];
                step.warnings.push(warning);
                step.change(now);
            }
        }
        for log in &status.logs {
            self.add_log(log, now);
        }
    }

    fn step_of(&self, digest: &str) -> Option<usize> {
        self.by_digest.get(digest).copied()
    }

    fn new_step(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    fn update_vertex(&mut self, vertex: Vertex, now: SystemTime) {
        let index = match self.step_of(vertex.digest.as_str()) {
            Some(index) => index,
            None => {
                let index = self.new_step(Step::default());
                self.by_digest.insert(vertex.digest.as_str().to_owned(), index);
                index
            }
        };
        let was_started = self.steps[index].is_started();
        if let (Some(started), false) = (vertex.started, was_started) {
            self.set_clock(started, now);
            self.started.push(index);
        }
        let step = &mut self.steps[index];
        if vertex.started.is_some() && step.is_news(&vertex) {
            step.change(now);
            self.updated.insert(index);
        }
        // The message that announces a vertex may come again after it started.
        if !was_started || vertex.started.is_some() {
            step.name.clone_from(&vertex.name);
            step.cached = vertex.cached;
            step.error.clone_from(&vertex.error);
        }
        if let Some(started) = vertex.started {
            step.set_interval(started, vertex.completed);
            step.previous = Some(vertex);
        }
    }

    fn add_member(&mut self, vertex: Vertex) {
        let Some(group) = &vertex.progress_group else { return };
        let (id, name) = (group.id.clone(), group.name.clone());
        if !self.groups.contains_key(&id) {
            let step = self.new_step(Step { name, hidden: true, ..Step::default() });
            self.groups.insert(id.clone(), Group { step, members: BTreeMap::new() });
        }
        if let Some(group) = self.groups.get_mut(&id) {
            self.by_digest.insert(vertex.digest.as_str().to_owned(), group.step);
            group.members.insert(vertex.digest.as_str().to_owned(), vertex);
        }
    }

    fn refresh_group(&mut self, id: &str, now: SystemTime) {
        let Some(group) = self.groups.get(id) else { return };
        let index = group.step;
        let step = &mut self.steps[index];
        let (was_started, was_hidden) = (step.is_started(), step.hidden);
        let mut changed = false;
        let mut error = String::new();
        for member in group.members.values() {
            if let Some(started) = member.started {
                changed |= step.set_interval(started, member.completed);
                let weak = member.progress_group.as_ref().is_some_and(|group| group.weak);
                step.hidden &= weak;
            }
            if error.is_empty() {
                error.clone_from(&member.error);
            }
        }
        if !error.is_empty() {
            step.hidden = false;
        }
        // Nothing is cached unless everything is.
        let cached = group.members.values().all(|member| member.cached);
        changed |= step.cached != cached || step.error != error || step.hidden != was_hidden;
        step.cached = cached;
        step.error = error;
        let first = step.merged.first().map(|interval| interval.start);
        if let (Some(first), false) = (first, was_started) {
            self.set_clock(first, now);
        }
        let step = &mut self.steps[index];
        if step.hidden {
            return;
        }
        if changed {
            step.change(now);
            self.updated.insert(index);
        }
        if was_hidden {
            self.started.push(index);
        }
    }

    fn update_status(&mut self, status: VertexStatus, now: SystemTime) {
        let Some(index) = self.step_of(status.vertex.as_str()) else { return };
        let step = &mut self.steps[index];
        let had_started = step.statuses.get(&status.id).is_some_and(|old| old.started.is_some());
        if status.started.is_some() && !had_started {
            step.status_order.push(status.id.clone());
        }
        step.updated_statuses.insert(status.id.clone());
        step.statuses.insert(status.id.clone(), status);
        step.change(now);
        self.updated.insert(index);
    }

    fn add_log(&mut self, log: &VertexLog, now: SystemTime) {
        let Some(index) = self.step_of(log.vertex.as_str()) else { return };
        let step = &mut self.steps[index];
        if let Some(window) = self.window {
            let terminal =
                step.terminal.get_or_insert_with(|| vt100::Parser::new(window.rows, window.columns, 0));
            step.terminal_bytes += log.data.len();
            for part in log.data.split_inclusive(|&b| b == b'\n') {
                match part.strip_suffix(b"\n") {
                    Some(line) => {
                        terminal.process(line);
                        terminal.process(b"\r\n");
                    }
                    None => terminal.process(part),
                }
            }
        }
        let since = step.merged.last().map(|interval| interval.start);
        let seconds = since
            .and_then(|start| log.timestamp.duration_since(start).ok())
            .unwrap_or_default()
            .as_secs_f64();
        for part in log.data.split_inclusive(|&b| b == b'\n') {
            let (line, complete) = match part.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (part, false),
            };
            if step.partial {
                if let Some(last) = step.logs.last_mut() {
                    last.extend_from_slice(line);
                }
                if let Some(last) = step.tail.back_mut() {
                    last.extend_from_slice(line);
                }
            } else {
                let precision = if seconds < 10.0 {
                    3
                } else if seconds < 100.0 {
                    2
                } else {
                    1
                };
                let mut text = format!("{seconds:.precision$} ").into_bytes();
                text.extend_from_slice(line);
                if self.window.is_none() {
                    if step.tail.len() == TAIL_LINES {
                        step.tail.pop_front();
                    }
                    step.tail.push_back(text.clone());
                }
                step.logs.push(text);
            }
            step.partial = !complete;
        }
        step.change(now);
        self.updated.insert(index);
    }

    fn set_clock(&mut self, started: SystemTime, now: SystemTime) {
        if self.clock.is_none() {
            self.clock = Some(match now.duration_since(started) {
                Ok(by) => Clock { by, behind: false },
                Err(error) => Clock { by: error.duration(), behind: true },
            });
        }
    }

    /// A time of the daemon on this machine's clock.
    pub(crate) fn local(&self, time: SystemTime) -> SystemTime {
        match self.clock {
            Some(Clock { by, behind: false }) => time.checked_add(by).unwrap_or(time),
            Some(Clock { by, behind: true }) => time.checked_sub(by).unwrap_or(time),
            None => time,
        }
    }

    /// Steps that are shown, and how many of them are done.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let shown = self.steps.iter().filter(|step| !step.hidden);
        let done = shown.clone().filter(|step| step.is_completed());
        (done.count(), shown.count())
    }

    /// Writes the end of the output of the steps that failed.
    pub(crate) fn error_logs(&self, out: &mut Vec<u8>) {
        for step in self.started.iter().map(|&index| &self.steps[index]) {
            if step.error.is_empty() || step.is_canceled() {
                continue;
            }
            out.extend_from_slice(format!("------\n > {}:\n", step.name).as_bytes());
            let lines = if self.window.is_some() {
                step.logs.iter().collect::<Vec<_>>()
            } else {
                step.tail.iter().collect()
            };
            for line in lines {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            out.extend_from_slice(b"------\n");
        }
    }
}
