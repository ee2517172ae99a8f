//! What is shown for whole builds, message by message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::{
    Event, LogStream, ProgressGroup, SolveStatus, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use bytes::Bytes;

use crate::plain::Printer;
use crate::settings::Settings;
use crate::trace::{Trace, Window};
use crate::tty::Painter;

fn at(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(1000.0 + seconds)
}

fn digest(name: &str) -> Digest {
    Digest::sha256(name)
}

fn vertex(name: &str, started: Option<f64>, completed: Option<f64>) -> Vertex {
    Vertex {
        digest: digest(name),
        inputs: Vec::new(),
        name: name.to_owned(),
        started: started.map(at),
        completed: completed.map(at),
        cached: false,
        error: String::new(),
        progress_group: None,
    }
}

fn log(name: &str, time: f64, text: &str) -> Event {
    Event::Log(VertexLog {
        vertex: digest(name),
        stream: LogStream::Stdout,
        data: Bytes::copy_from_slice(text.as_bytes()),
        timestamp: at(time),
    })
}

fn status(name: &str, id: &str, current: i64, time: f64, done: bool) -> Event {
    Event::Status(VertexStatus {
        id: id.to_owned(),
        vertex: digest(name),
        name: String::new(),
        total: 4_000_000,
        current,
        timestamp: at(time),
        started: Some(at(0.5)),
        completed: done.then(|| at(time)),
    })
}

/// A message and when it arrives.
fn message(time: f64, events: impl IntoIterator<Item = Event>) -> (f64, SolveStatus) {
    let mut status = SolveStatus::default();
    events.into_iter().for_each(|event| status.push(event));
    (time, status)
}

fn build() -> Vec<(f64, SolveStatus)> {
    let v = |name, started, completed| Event::Vertex(vertex(name, started, completed));
    let cached = Vertex { cached: true, ..vertex("base", Some(0.0), Some(0.0)) };
    let failed = Vertex { error: "exit code: 1".into(), ..vertex("[2/2] RUN test", Some(1.0), Some(3.0)) };
    let canceled = Vertex { error: "rpc: context canceled".into(), ..vertex("slow", Some(1.0), Some(3.0)) };
    vec![
        message(0.0, [v("base", None, None), v("load", Some(0.0), None), v("slow", None, None)]),
        message(0.1, [Event::Vertex(cached)]),
        message(0.5, [status("load", "sha256:abc", 0, 0.5, false)]),
        message(0.6, [status("load", "sha256:abc", 100, 0.6, false)]),
        message(0.8, [status("load", "sha256:abc", 4_000_000, 0.8, true)]),
        message(1.0, [v("load", Some(0.0), Some(1.0)), v("[2/2] RUN test", Some(1.0), None)]),
        message(1.5, [log("[2/2] RUN test", 1.5, "compiling\nrunn")]),
        message(1.6, [log("[2/2] RUN test", 1.6, "ing\n"), v("slow", Some(1.0), None)]),
        message(
            2.0,
            [
                Event::Warning(VertexWarning {
                    vertex: digest("slow"),
                    level: 1,
                    short: Bytes::from_static(b"old syntax"),
                    detail: Vec::new(),
                    url: String::new(),
                    source_info: None,
                    ranges: Vec::new(),
                }),
                log("slow", 2.0, "\x1b[31mred\x1b[0m\n"),
            ],
        ),
        message(3.0, [log("[2/2] RUN test", 2.9, "failed"), Event::Vertex(failed)]),
        message(3.1, [Event::Vertex(canceled)]),
    ]
}

fn plain(messages: Vec<(f64, SolveStatus)>) -> String {
    let (mut trace, mut printer, mut out) = (Trace::new(None), Printer::new(false), Vec::new());
    for (time, message) in messages {
        trace.update(message, at(time));
        printer.print(&mut trace, at(time), &mut out);
    }
    printer.print(&mut trace, at(9.0), &mut out);
    trace.error_logs(&mut out);
    String::from_utf8(out).expect("text")
}

/// What a terminal shows after each of some messages.
fn tty(messages: Vec<(f64, SolveStatus)>, rows: u16, shown: &[f64]) -> String {
    let size = (50, usize::from(rows));
    let mut trace = Trace::new(None);
    let mut painter = Painter::new("Building", Settings::default());
    let size_of = |n: u16| std::num::NonZero::new(n).expect("not zero");
    let mut screen = vt100::Parser::new(size_of(rows + 20), size_of(50), 0);
    let mut out = String::new();
    let last = messages.len() - 1;
    for (number, (time, message)) in messages.into_iter().enumerate() {
        trace.set_window(Window::new(painter.window_rows(size.1), size.0));
        trace.update(message, at(time));
        let drawn = painter.draw(&mut trace, size, at(time), number == last);
        screen.process(drawn.replace('\n', "\r\n").as_bytes());
        if shown.contains(&time) {
            out.push_str(&format!("--- {time}\n"));
            for row in screen.screen().contents().trim_end().lines() {
                out.push_str(row.trim_end());
                out.push('\n');
            }
        }
    }
    out
}

#[test]
fn plain_text() {
    insta::assert_snapshot!(plain(build()).replace('\x1b', "ESC"), @r"
    #1 load
    #1 ...

    #2 base
    #2 CACHED

    #1 load
    #1 sha256:abc 0B / 4.00MB
    #1 sha256:abc 4.00MB / 4.00MB 0.3s done
    #1 DONE 1.0s

    #3 [2/2] RUN test
    #3 0.500 compiling
    #3 0.500 running
    #3 1.900 failed
    #3 ERROR: exit code: 1

    #4 slow
    #4 WARN: old syntax
    #4 1.000 ESC[31mredESC[0m
    #4 CANCELED
    ------
     > [2/2] RUN test:
    0.500 compiling
    0.500 running
    1.900 failed
    ------
    ");
}

#[test]
fn terminal() {
    insta::assert_snapshot!(tty(build(), 30, &[0.6, 2.0, 3.1]), @r"
    --- 0.6
    [+] Building 0.6s (1/3)
     => load                                     0.6s
     => => sha256:abc 100B / 4.00MB              0.1s
     => CACHED base                              0.0s
    --- 2
    [+] Building 2.0s (2/4)
     => load                                     1.0s
     => => sha256:abc 4.00MB / 4.00MB            0.3s
     => CACHED base                              0.0s
     => [2/2] RUN test                           1.0s
     => => # compiling
     => => # running
     => slow                                     1.0s
     => => # red
     => WARN: old syntax                         1.0s
    --- 3.1
    [+] Building 3.1s (4/4) FINISHED
     => load                                     1.0s
     => => sha256:abc 4.00MB / 4.00MB            0.3s
     => CACHED base                              0.0s
     => ERROR [2/2] RUN test                     2.0s
     => CANCELED slow                            2.0s
     => WARN: old syntax                         2.0s
    ");
}

#[test]
fn small_terminals_show_what_runs() {
    let mut messages: Vec<_> = (0..12)
        .map(|n| {
            let name = format!("step {n}");
            let started = f64::from(n);
            let done = (n % 3 != 0).then_some(started + 0.5);
            message(started, [Event::Vertex(vertex(&name, Some(started), done))])
        })
        .collect();
    messages.push(message(13.0, []));
    messages.push(message(14.0, []));
    insta::assert_snapshot!(tty(messages, 8, &[11.0, 13.0]), @r"
    --- 11
    [+] Building 11.0s (8/12)
     => step 0                                  11.0s
     => step 3                                   8.0s
     => step 6                                   5.0s
     => step 9                                   2.0s
     => step 10                                  0.5s
     => step 11                                  0.5s
    --- 13
    [+] Building 13.0s (8/12)
     => step 0                                  13.0s
     => step 3                                  10.0s
     => step 6                                   7.0s
     => step 9                                   4.0s
     => step 10                                  0.5s
     => step 11                                  0.5s
    ");
}

#[test]
fn groups_are_one_step() {
    let member = |name: &str, started, completed, weak, cached| {
        let group = ProgressGroup { id: "g".into(), name: "internal".into(), weak };
        let vertex = vertex(name, started, completed);
        Event::Vertex(Vertex { progress_group: Some(group), cached, ..vertex })
    };
    let messages = vec![
        message(0.0, [member("a", Some(0.0), None, true, false)]),
        message(1.0, [member("a", Some(0.0), Some(1.0), true, true)]),
        message(1.0, [log("a", 1.0, "from a\n"), member("b", Some(1.5), None, false, false)]),
        message(2.0, [member("b", Some(1.5), Some(2.0), false, false)]),
    ];
    insta::assert_snapshot!(plain(messages), @r"
    #1 internal
    #1 0.000 from a
    #1 DONE 1.5s
    ");
}

#[test]
fn long_output_leaves_the_last_lines_when_a_step_fails() {
    let v = |name, started, completed| Event::Vertex(vertex(name, started, completed));
    let lines: String = (0..40).map(|n| format!("line {n}\n")).collect();
    let failed = Vertex { error: "broken".into(), ..vertex("x", Some(0.0), Some(1.0)) };
    let text = plain(vec![
        message(0.0, [v("x", Some(0.0), None)]),
        message(0.5, [log("x", 0.5, &lines)]),
        message(1.0, [Event::Vertex(failed)]),
    ]);
    let tail = text.split("------\n").nth(1).expect("an excerpt");
    assert_eq!(tail.lines().count(), 11);
    assert!(tail.starts_with(" > x:\n0.500 line 30\n"), "{tail}");
}

#[test]
fn output_of_many_steps_takes_turns() {
    let v = |name, started, completed| Event::Vertex(vertex(name, started, completed));
    let mut messages = vec![message(0.0, [v("a", Some(0.0), None), v("b", Some(0.0), None)])];
    for second in 1..40 {
        let time = f64::from(second);
        messages.push(message(
            time,
            [log("a", time, &format!("a{second}\n")), log("b", time, &format!("b{second}\n"))],
        ));
    }
    messages.push(message(40.0, [v("a", Some(0.0), Some(40.0)), v("b", Some(0.0), Some(40.0))]));
    let text = plain(messages);
    for second in 1..40 {
        for name in ["a", "b"] {
            let line = format!(" {name}{second}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line:?} in {text}");
        }
    }
    let switches = text.matches("...\n").count();
    assert!((2..=10).contains(&switches), "{switches} switches in {text}");
}
