use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use buildkit_util_progress::{SolveStatus, VertexWarning};
use tokio::sync::mpsc;

use crate::plain::Printer;
use crate::settings::Settings;
use crate::trace::{Trace, Window};
use crate::tty::Painter;
use crate::{Error, to_json};

/// Time between two updates while messages arrive, and without any.
const UPDATE_RATE: Duration = Duration::from_millis(100);
const REFRESH_RATE: Duration = Duration::from_millis(150);
/// Size of a terminal that does not tell.
const DEFAULT_SIZE: (usize, usize) = (80, 10);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As [`Mode::Tty`] on a terminal, else as [`Mode::Plain`].
    #[default]
    Auto,
    /// Drawn over and over; fails without a terminal.
    Tty,
    /// Lines that only grow.
    Plain,
    /// Not at all.
    Quiet,
    /// Messages as they come, a line of JSON each.
    RawJson,
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "tty" => Ok(Self::Tty),
            "plain" => Ok(Self::Plain),
            "quiet" => Ok(Self::Quiet),
            "rawjson" => Ok(Self::RawJson),
            other => Err(Error::Mode(other.to_owned())),
        }
    }
}

/// A terminal, for its size.
pub struct Terminal(OwnedFd);

impl Terminal {
    /// The terminal behind a file, if it is one.
    pub fn of(file: impl AsFd) -> Option<Self> {
        let file = file.as_fd();
        if !rustix::termios::isatty(file) {
            return None;
        }
        file.try_clone_to_owned().ok().map(Self)
    }

    /// Columns and rows.
    fn size(&self) -> (usize, usize) {
        match rustix::termios::tcgetwinsize(&self.0) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => DEFAULT_SIZE,
        }
    }
}

/// Shows the progress of one build.
pub struct Display<W: Write> {
    out: W,
    kind: Kind,
    rate: Option<Duration>,
    last_update: Option<Instant>,
}

enum Kind {
    Quiet,
    RawJson,
    Plain { trace: Trace, printer: Printer },
    Tty { trace: Trace, painter: Painter, terminal: Terminal },
}

impl<W: Write> Display<W> {
    /// Writes to `out`, which is the given terminal if it is one. `phase` is what a terminal's heading
    /// says is going on, such as `Building`.
    ///
    /// # Errors
    /// [`Error::NotATerminal`] in mode tty without a terminal.
    pub fn new(
        out: W,
        terminal: Option<Terminal>,
        mode: Mode,
        phase: &str,
        settings: Settings,
    ) -> Result<Self, Error> {
        let rate = settings.rate;
        let kind = match (mode, terminal) {
            (Mode::Auto | Mode::Tty, Some(terminal)) => Kind::Tty {
                trace: Trace::new(Some(Window::new(1, DEFAULT_SIZE.0))),
                painter: Painter::new(phase, settings),
                terminal,
            },
            (Mode::Tty, None) => return Err(Error::NotATerminal),
            (Mode::Auto | Mode::Plain, _) => {
                Kind::Plain { trace: Trace::new(None), printer: Printer::new(settings.truncate) }
            }
            (Mode::Quiet, _) => Kind::Quiet,
            (Mode::RawJson, _) => Kind::RawJson,
        };
        Ok(Self { out, kind, rate, last_update: None })
    }

    /// Whether progress is drawn on a terminal.
    pub fn is_interactive(&self) -> bool {
        matches!(self.kind, Kind::Tty { .. })
    }

    /// Whether what is shown is for people to read, and not for a program or for nobody.
    pub fn is_for_people(&self) -> bool {
        matches!(self.kind, Kind::Tty { .. } | Kind::Plain { .. })
    }

    /// Takes a message in, and shows it unless something was shown just now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn update(&mut self, status: SolveStatus) -> Result<(), Error> {
        let now = SystemTime::now();
        match &mut self.kind {
            Kind::Quiet => return Ok(()),
            Kind::RawJson => {
                let mut line = to_json(&status);
                line.push('\n');
                return self.write(line.as_bytes());
            }
            Kind::Plain { trace, .. } => trace.update(status, now),
            Kind::Tty { trace, painter, terminal } => {
                let (width, height) = terminal.size();
                trace.set_window(Window::new(painter.window_rows(height), width));
                trace.update(status, now);
            }
        }
        let rate = self.rate.unwrap_or(UPDATE_RATE);
        if self.last_update.is_some_and(|last| last.elapsed() < rate) {
            return Ok(());
        }
        self.refresh()
    }

    /// Shows what is known.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.last_update = Some(Instant::now());
        let now = SystemTime::now();
        let mut text = Vec::new();
        match &mut self.kind {
            Kind::Quiet | Kind::RawJson => return Ok(()),
            Kind::Plain { trace, printer } => printer.print(trace, now, &mut text),
            Kind::Tty { trace, painter, terminal } => {
                text = painter.draw(trace, terminal.size(), now, false).into_bytes();
            }
        }
        self.write(&text)
    }

    /// Shows everything for the last time, with the output of steps that failed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(), Error> {
        let now = SystemTime::now();
        let mut text = Vec::new();
        match &mut self.kind {
            Kind::Quiet | Kind::RawJson => return Ok(()),
            Kind::Plain { trace, printer } => {
                printer.print(trace, now, &mut text);
                trace.error_logs(&mut text);
            }
            Kind::Tty { trace, painter, terminal } => {
                text = painter.draw(trace, terminal.size(), now, true).into_bytes();
                trace.error_logs(&mut text);
            }
        }
        self.write(&text)
    }

    /// Shows messages until there are no more; returns the warnings among them.
    ///
    /// # Errors
    /// When it cannot be written. Messages that are left are not taken then.
    pub async fn run(
        mut self,
        mut messages: mpsc::Receiver<SolveStatus>,
    ) -> Result<Vec<VertexWarning>, Error> {
        let mut warnings = Vec::new();
        let rate = self.rate.unwrap_or(REFRESH_RATE).max(Duration::from_millis(1));
        loop {
            match tokio::time::timeout(rate, messages.recv()).await {
                Ok(Some(status)) => {
                    warnings.extend(status.warnings.iter().cloned());
                    self.update(status)?;
                }
                Ok(None) => break,
                Err(_) => self.refresh()?,
            }
        }
        self.finish()?;
        Ok(warnings)
    }

    fn write(&mut self, text: &[u8]) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        self.out.write_all(text).and_then(|()| self.out.flush()).map_err(Error::Write)
    }
}
