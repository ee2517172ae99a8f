//! Progress as lines that only grow, for logs and pipes.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::format::progress;
use crate::interval::total;
use crate::trace::Trace;

/// Time for which a step with output stays the active one at least.
const ANTI_FLICKER: Duration = Duration::from_secs(5);
/// Time after which a step with news gets its turn.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// Time and part of the whole after which a status is printed again.
const MIN_STATUS_TIME: Duration = Duration::from_secs(5);
const MIN_STATUS_PART: f64 = 0.05;
/// Bytes of a name that are kept when names are cut.
const MAX_NAME: usize = 72;

/// Writes one step at a time, switching between steps as seldom as is fair.
#[derive(Default)]
pub(crate) struct Printer {
    truncate: bool,
    active: Option<usize>,
    last_number: usize,
    /// What was last printed of a status.
    printed: HashMap<(usize, String), (i64, SystemTime)>,
    has_printed: bool,
}

impl Printer {
    pub(crate) fn new(truncate: bool) -> Self {
        Self { truncate, ..Self::default() }
    }

    /// Writes what should be seen now.
    pub(crate) fn print(&mut self, trace: &mut Trace, now: SystemTime, out: &mut Vec<u8>) {
        let updated: Vec<usize> = trace.updated.iter().copied().filter(|&i| !trace.steps[i].hidden).collect();
        let (mut completed, mut open): (Vec<usize>, Vec<usize>) =
            updated.into_iter().partition(|&index| trace.steps[index].is_completed());
        let active = self.active;
        completed.sort_by_key(|&index| {
            (Some(index) != active, trace.steps[index].merged.last().and_then(|i| i.stop))
        });
        for &index in &completed {
            self.print_step(trace, index, out);
        }
        if open.is_empty() {
            let is_open = |index: usize| {
                let step = &trace.steps[index];
                step.is_started() && !step.is_completed() && !step.hidden
            };
            if !active.is_some_and(is_open)
                && let Some(next) = trace.started.iter().copied().find(|&index| is_open(index))
            {
                self.print_step(trace, next, out);
            }
            return;
        }
        match active {
            Some(active) if open.contains(&active) => self.print_step(trace, active, out),
            Some(active) => open.push(active),
            None => {}
        }
        self.choose(trace, &completed, &open, active, now, out);
    }

    /// Lets another step be the active one when it is its turn.
    fn choose(
        &mut self,
        trace: &mut Trace,
        completed: &[usize],
        open: &[usize],
        active: Option<usize>,
        now: SystemTime,
        out: &mut Vec<u8>,
    ) {
        let mut sum = 0.0;
        let mut busiest: Option<(usize, f64)> = None;
        let mut overdue = None;
        let mut of_active = None;
        for &index in open {
            let step = &trace.steps[index];
            let Some(since) = step.changes_since else { continue };
            let waiting = now.duration_since(since).unwrap_or_default();
            let speed = f64::from(step.changes) / waiting.as_secs_f64().max(1e-9);
            sum += speed;
            if waiting > MAX_DELAY && Some(index) != active {
                overdue = overdue.or(Some(index));
            }
            if busiest.is_none_or(|(_, fastest)| fastest < speed) {
                busiest = Some((index, speed));
            }
            if Some(index) == active {
                of_active = Some((waiting, speed));
            }
        }
        let busiest = overdue.or(busiest.map(|(index, _)| index));
        let Some(busiest) = busiest else { return };
        let is_done = active.is_none_or(|active| completed.contains(&active));
        if is_done || overdue.is_some() {
            self.print_step(trace, busiest, out);
            return;
        }
        // The more of the output is the active step's, the longer it stays.
        if let Some((waiting, speed)) = of_active {
            let others = (1.0 - speed / sum).max(1e-9);
            if ANTI_FLICKER.as_secs_f64() / others < waiting.as_secs_f64() {
                self.print_step(trace, busiest, out);
            }
        }
    }

    fn print_step(&mut self, trace: &mut Trace, index: usize, out: &mut Vec<u8>) {
        if trace.steps[index].number == 0 {
            self.last_number += 1;
            trace.steps[index].number = self.last_number;
        }
        if self.active != Some(index) {
            self.switch(trace, index, out);
        }
        let is_open = self.print_statuses(trace, index, out);
        let step = &mut trace.steps[index];
        let number = step.number;
        for warning in &step.warnings[step.warnings_printed..] {
            line(out, number, &format!("WARN: {}", String::from_utf8_lossy(&warning.short)));
        }
        step.warnings_printed = step.warnings.len();

        let count = step.logs.len();
        for (at, text) in step.logs.iter().enumerate() {
            if at == 0 && step.printed != 0 {
                out.extend_from_slice(text.get(step.printed..).unwrap_or_default());
            } else {
                out.extend_from_slice(format!("#{number} ").as_bytes());
                out.extend_from_slice(text);
            }
            if at + 1 != count || !step.partial {
                out.push(b'\n');
            }
        }
        if step.partial {
            step.logs.drain(..count.saturating_sub(1));
            step.printed = step.logs.first().map_or(0, Vec::len);
        } else {
            step.logs.clear();
            step.printed = 0;
        }

        self.active = Some(index);
        if step.is_completed() && !is_open {
            self.active = None;
            step.changes = 0;
            if step.partial && !step.logs.is_empty() {
                out.push(b'\n');
                step.logs.clear();
                (step.partial, step.printed) = (false, 0);
            }
            if !step.error.is_empty() {
                if step.is_canceled() {
                    line(out, number, "CANCELED");
                } else {
                    line(out, number, &format!("ERROR: {}", step.error));
                }
            } else if step.cached {
                line(out, number, "CACHED");
            } else {
                let end = step.merged.last().and_then(|interval| interval.stop);
                let time = total(&step.merged, end.unwrap_or(SystemTime::UNIX_EPOCH));
                line(out, number, &format!("DONE {:.1}s", time.as_secs_f64()));
            }
        }
        trace.updated.remove(&index);
    }

    /// Leaves the active step and writes the heading of the next.
    fn switch(&mut self, trace: &mut Trace, index: usize, out: &mut Vec<u8>) {
        if let Some(active) = self.active {
            let old = &mut trace.steps[active];
            if old.partial {
                out.push(b'\n');
            }
            old.printed = 0;
            old.changes = 0;
            line(out, old.number, "...");
        }
        if self.has_printed {
            out.push(b'\n');
        }
        self.has_printed = true;
        let step = &trace.steps[index];
        if self.truncate && step.name.len() > MAX_NAME {
            let end = (0..=MAX_NAME).rev().find(|&at| step.name.is_char_boundary(at)).unwrap_or(0);
            line(out, step.number, &format!("{}...", &step.name[..end]));
        } else {
            line(out, step.number, &step.name);
        }
    }

    /// Writes statuses with news; says whether one of them is still open.
    fn print_statuses(&mut self, trace: &mut Trace, index: usize, out: &mut Vec<u8>) -> bool {
        let step = &mut trace.steps[index];
        let mut is_open = false;
        for id in &step.status_order {
            if !step.updated_statuses.contains(id) {
                continue;
            }
            let Some(status) = step.statuses.get(id) else { continue };
            let key = (index, id.clone());
            if let Some((current, time)) = self.printed.get(&key)
                && status.completed.is_none()
            {
                #[expect(clippy::cast_precision_loss, reason = "compared with a twentieth")]
                let part = if status.total > 0 {
                    status.current.saturating_sub(*current) as f64 / status.total as f64
                } else {
                    0.0
                };
                let time = status.timestamp.duration_since(*time).unwrap_or_default();
                if part < MIN_STATUS_PART && time < MIN_STATUS_TIME {
                    continue;
                }
            }
            self.printed.insert(key, (status.current, status.timestamp));
            let mut text = id.clone();
            if let Some(progress) = progress(status.current, status.total) {
                text.push(' ');
                text.push_str(&progress);
            }
            let end = status.completed.unwrap_or(status.timestamp);
            let time = status.started.and_then(|start| end.duration_since(start).ok());
            if let Some(time) = time.filter(|time| time.as_secs_f64() > 0.01) {
                text.push_str(&format!(" {:.1}s", time.as_secs_f64()));
            }
            if status.completed.is_some() {
                text.push_str(" done");
            } else {
                is_open = true;
            }
            line(out, step.number, &text);
        }
        step.updated_statuses.clear();
        is_open
    }
}

fn line(out: &mut Vec<u8>, number: usize, text: &str) {
    out.extend_from_slice(format!("#{number} {text}\n").as_bytes());
}
