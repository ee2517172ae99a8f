//! Progress that is drawn again and again on a terminal.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use unicode_width::UnicodeWidthStr as _;

use crate::format::{cut, pad, printable, progress};
use crate::interval::{Interval, merge, total};
use crate::settings::{MIN_LOG_LINES, Settings};
use crate::trace::{Step, Trace, Window};

/// Columns of a name below which a line is left out.
const MIN_NAME: usize = 12;
/// Times below this are shown as none.
const MIN_TIME: Duration = Duration::from_millis(50);

/// One line: a step, a part of one or a warning.
struct Job {
    intervals: Vec<Interval>,
    is_completed: bool,
    name: String,
    status: Option<String>,
    color: Color,
    step: Option<usize>,
    show_window: bool,
}

#[derive(Clone, Copy)]
enum Color {
    Run,
    Cancel,
    Error,
}

/// Draws over what it drew before.
pub(crate) struct Painter {
    phase: String,
    settings: Settings,
    lines: usize,
    has_drawn: bool,
}

impl Painter {
    pub(crate) fn new(phase: &str, settings: Settings) -> Self {
        Self { phase: phase.to_owned(), settings, lines: 0, has_drawn: false }
    }

    /// Lines of a log window on a terminal of this height.
    pub(crate) fn window_rows(&self, height: usize) -> usize {
        self.settings.log_lines.min(height.saturating_sub(MIN_LOG_LINES + 1)).max(MIN_LOG_LINES)
    }

    /// Draws everything; `last` shows all steps, however many.
    pub(crate) fn draw(
        &mut self,
        trace: &mut Trace,
        (width, height): (usize, usize),
        now: SystemTime,
        last: bool,
    ) -> String {
        let jobs = jobs(trace);
        let jobs = self.place_windows(trace, jobs, height, last);
        let mut out = String::new();
        // Go back to the heading of what was drawn before.
        let up = self.lines + usize::from(self.has_drawn);
        if up > 0 {
            let _ = write!(out, "\x1b[{up}A");
        }
        self.has_drawn = true;
        out.push_str("\x1b[0G\x1b[?25l");

        let (done, count) = trace.counts();
        let finished = if last && done > 0 && done == count { "FINISHED" } else { "" };
        let start = trace.start.map_or(now, |start| trace.local(start));
        let seconds = now.duration_since(start).unwrap_or_default().as_secs_f64();
        let heading = format!("[+] {} {seconds:.1}s ({done}/{count}) {finished}", self.phase);
        out.push_str(&pad(cut(&heading, width), width));
        out.push('\n');

        let mut lines = 0;
        for job in &jobs {
            lines += self.draw_job(trace, job, width, height, now, &mut out);
        }
        if self.lines > lines {
            let old = self.lines - lines;
            for _ in 0..old {
                out.push_str(&" ".repeat(width));
                out.push('\n');
            }
            let _ = write!(out, "\x1b[{old}A\x1b[0G");
        }
        self.lines = lines;
        out.push_str("\x1b[?25h");
        out
    }

    /// Returns the number of lines drawn.
    fn draw_job(
        &self,
        trace: &mut Trace,
        job: &Job,
        width: usize,
        height: usize,
        now: SystemTime,
        out: &mut String,
    ) -> usize {
        const PREFIX: &str = " => ";
        if job.intervals.is_empty() {
            return 0;
        }
        let time = total(&job.intervals, now);
        let time = if time < MIN_TIME { Duration::ZERO } else { time };
        let timer = format!(" {:3.1}s", time.as_secs_f64());
        let Some(mut room) = width.checked_sub(PREFIX.len() + timer.len() + 2) else { return 0 };
        let status = job.status.as_deref().filter(|status| room + status.len() > 20);
        if let Some(status) = status {
            room = room.saturating_sub(status.len() + 1);
        }
        if room < MIN_NAME {
            return 0;
        }
        let mut line = format!("{PREFIX}{}", cut(&job.name, room));
        if let Some(status) = status {
            line.push(' ');
            line.push_str(status);
        }
        let mut line = pad(&line, width.saturating_sub(timer.len() + 2));
        line.push(' ');
        line.push_str(&timer);
        line.push('\n');
        let colors = &self.settings.colors;
        let color = match job.color {
            Color::Run => &colors.run,
            Color::Cancel => &colors.cancel,
            Color::Error => &colors.error,
        };
        if job.is_completed && !color.is_empty() {
            let _ = write!(out, "{color}{line}\x1b[0m");
        } else {
            out.push_str(&line);
        }
        let window = job.step.filter(|_| job.show_window);
        1 + window.map_or(0, |step| self.draw_window(trace, step, width, height, out))
    }

    /// Draws the last output of a running step.
    fn draw_window(
        &self,
        trace: &mut Trace,
        step: usize,
        width: usize,
        height: usize,
        out: &mut String,
    ) -> usize {
        let Window { rows, columns } = Window::new(self.window_rows(height), width);
        let step = &mut trace.steps[step];
        step.terminal_shown += 1;
        let Some(terminal) = &mut step.terminal else { return 0 };
        if terminal.screen().size() != (rows, columns) {
            terminal.screen_mut().set_size(rows, columns);
        }
        let mut lines = 0;
        let columns = columns.get();
        for row in terminal.screen().rows(0, columns) {
            if row.trim().is_empty() {
                continue;
            }
            let row = pad(cut(&row, usize::from(columns)), usize::from(columns));
            let _ = writeln!(out, "\x1b[2m => => # {row}\x1b[0m");
            lines += 1;
        }
        lines
    }

    /// Gives windows to the running steps that say most, as far as there is room, and leaves out
    /// jobs that there is none for.
    fn place_windows(&self, trace: &Trace, mut jobs: Vec<Job>, height: usize, all: bool) -> Vec<Job> {
        let running = jobs.iter().filter(|job| !job.is_completed).count();
        let mut candidates: Vec<(usize, usize, usize)> = jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| !job.is_completed)
            .filter_map(|(at, job)| {
                let step = &trace.steps[job.step?];
                (step.terminal_bytes > 0)
                    .then(|| (at, step.terminal_bytes + step.terminal_shown * 50, used_rows(step)))
            })
            .collect();
        candidates.sort_by_key(|&(_, weight, _)| std::cmp::Reverse(weight));
        let needed = self.window_rows(height) + 3;
        let mut free = height.saturating_sub(2 + running);
        let mut hidden = 0;
        for (at, _, rows) in candidates {
            if free <= needed {
                break;
            }
            jobs[at].show_window = true;
            hidden += rows;
            free -= needed;
        }
        if all { jobs } else { fit(jobs, height.checked_sub(2 + hidden)) }
    }
}

/// Rows of a window up to the last one with text.
fn used_rows(step: &Step) -> usize {
    step.terminal.as_ref().map_or(0, |terminal| {
        let screen = terminal.screen();
        let rows: Vec<String> = screen.rows(0, screen.size().1.get()).collect();
        rows.iter().rposition(|row| row.width() > 0).map_or(0, |last| last + 1)
    })
}

/// The last jobs that fit; running ones that would be cut take the place of finished ones.
fn fit(mut jobs: Vec<Job>, limit: Option<usize>) -> Vec<Job> {
    let Some(limit) = limit else { return Vec::new() };
    if jobs.len() <= limit {
        return jobs;
    }
    let shown = jobs.split_off(jobs.len() - limit);
    let mut running: Vec<Job> = jobs.into_iter().filter(|job| !job.is_completed).collect();
    let mut to_drop = running.len();
    let mut kept = Vec::with_capacity(limit);
    for job in shown {
        if job.is_completed && to_drop > 0 {
            to_drop -= 1;
        } else {
            kept.push(job);
        }
    }
    let mut fitted = running.split_off(running.len() - (limit - kept.len()).min(running.len()));
    fitted.append(&mut kept);
    fitted
}

fn jobs(trace: &Trace) -> Vec<Job> {
    let local = |start: SystemTime, stop: Option<SystemTime>| Interval {
        start: trace.local(start),
        stop: stop.map(|stop| trace.local(stop)),
    };
    let mut jobs = Vec::new();
    for &index in &trace.started {
        let step = &trace.steps[index];
        let (mark, color) = match () {
            () if step.is_canceled() => ("CANCELED ", Color::Cancel),
            () if !step.error.is_empty() => ("ERROR ", Color::Error),
            () => ("", Color::Run),
        };
        let cached = if step.cached { "CACHED " } else { "" };
        jobs.push(Job {
            intervals: merge(step.merged.iter().map(|i| local(i.start, i.stop))),
            is_completed: step.is_completed(),
            name: printable(&format!("{cached}{mark}{}", step.name)),
            status: None,
            color,
            step: Some(index),
            show_window: false,
        });
        for status in step.status_order.iter().filter_map(|id| step.statuses.get(id)) {
            jobs.push(Job {
                intervals: status
                    .started
                    .map(|started| local(started, status.completed))
                    .into_iter()
                    .collect(),
                is_completed: status.completed.is_some(),
                name: printable(&format!("=> {}", status.id)),
                status: progress(status.current, status.total),
                color: Color::Run,
                step: None,
                show_window: false,
            });
        }
        for warning in &step.warnings {
            let text = String::from_utf8_lossy(&warning.short);
            jobs.push(Job {
                intervals: step.merged.last().map(|i| local(i.start, i.stop)).into_iter().collect(),
                is_completed: false,
                name: printable(&format!("WARN: {text}")),
                status: None,
                color: Color::Cancel,
                step: None,
                show_window: false,
            });
        }
    }
    jobs
}
