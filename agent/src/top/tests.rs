use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{Next, Seen, View, draw, picture};
use crate::{
    rates::{ActionRate, OutcomeRate, Rate, Rates, ReasonRate, RefusedSource, ServiceRate, SourceRate},
    screens, written,
};

fn now() -> SystemTime {
    humantime::parse_rfc3339("2026-11-26T08:00:00Z").unwrap()
}

fn rate(packets: f64) -> Rate {
    Rate {
        packets,
        bytes: packets * 60.0,
    }
}

fn seen() -> Seen {
    let outcome = |outcome, reason: &str, packets| OutcomeRate {
        outcome,
        reason: reason.to_owned(),
        rate: rate(packets),
    };
    let service = |service: &str, dropped, passed| ServiceRate {
        service: service.to_owned(),
        dropped,
        would_drop: 0.0,
        passed,
    };
    let action = |action: &str, allowed, refused| ActionRate {
        action: action.to_owned(),
        allowed,
        refused,
    };
    let refused = |last: u8, reason: &str, sampled| RefusedSource {
        source: [192, 0, 2, last].into(),
        sampled,
        reason: reason.to_owned(),
    };
    let source = |cidr: &str, name: &str, packets| SourceRate {
        cidr: cidr.to_owned(),
        name: name.to_owned(),
        rate: rate(packets),
    };
    let reason = |reason: &str, count| ReasonRate {
        reason: reason.to_owned(),
        count,
    };
    Seen {
        rates: Rates {
            seconds: 1.0,
            filter: vec![
                outcome("drop", "source_not_allowlisted", 1_204_331.0),
                outcome("pass", "allowlisted", 8_120.0),
                outcome("drop", "verdict_deny", 311.5),
                outcome("drop", "handshake_budget", 12.0),
            ],
            services: vec![
                service("tcp/443", 1_204_654.5, 8_120.0),
                service("tcp/8443", 0.0, 3.0),
            ],
            sources: vec![
                source("10.239.14.31/32", "ssp-int", 7_900.0),
                source("2001:db8:42::/48", "leeds", 220.0),
            ],
            refused_sources: vec![
                refused(7, "verdict_deny", 91),
                refused(8, "source_not_allowlisted", 8),
            ],
            lost_events: 1_200_000.0,
            handshakes: 41.0,
            handshakes_refused: 3.0,
            requests_allowed: 1_803.0,
            requests_refused: 9.0,
            refusals: vec![
                reason("not_owner", 7.0),
                reason("certificate_expired", 3.0),
                reason("asid_unknown", 2.0),
            ],
            actions: vec![
                action("search", 1_500.0, 0.0),
                action("read", 301.0, 2.0),
                action("delete", 2.0, 7.0),
            ],
        },
        status: screens::answer("status"),
        verdicts: screens::answer("verdicts-list"),
    }
}

fn drawn(width: u16, height: u16, view: &View) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, &seen(), view, now(), true))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let lines = buffer.content.chunks(usize::from(buffer.area.width));
    lines
        .map(|line| {
            let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
            line.trim_end().to_owned() + "\n"
        })
        .collect()
}

fn press(view: &mut View, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        };
        assert_eq!(view.press(KeyEvent::from(code)), Next::Stay, "{keys:?}");
    }
}

#[test]
fn the_smallest_terminal_shows_everything_there_is() {
    screens::same("top-80x24", &text(&drawn(80, 24, &View::default())));
}

#[test]
fn a_wide_terminal_has_four_columns() {
    screens::same("top-180x30", &text(&drawn(180, 30, &View::default())));
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    for (width, height) in [(79, 24), (80, 23), (10, 1)] {
        let shown = text(&drawn(width, height, &View::default()));
        assert!(shown.starts_with("the termin"), "{shown}");
    }
}

#[test]
fn every_size_can_be_drawn() {
    for width in (0..200).step_by(13) {
        for height in (0..60).step_by(7) {
            drawn(width, height, &View::default());
        }
    }
}

#[test]
fn a_filter_leaves_the_rows_that_have_it() {
    let mut view = View::default();
    press(&mut view, "/VERDICTx\u{8}");
    let typing = text(&drawn(80, 24, &view));
    assert!(typing.contains("only rows with: VERDICT_"), "{typing}");
    press(&mut view, "\n");
    let filtered = text(&drawn(80, 24, &view));
    assert!(
        filtered.contains("verdict_deny") && !filtered.contains("allowlisted"),
        "{filtered}"
    );
    assert!(filtered.contains("/ filter [VERDICT"), "{filtered}");
    press(&mut view, "\u{1b}");
    assert_eq!(view, View::default());
}

#[test]
fn keys_sort_and_pause() {
    let mut view = View::default();
    let verdict_first = |view: &View| {
        let shown = text(&drawn(80, 24, view));
        shown.find("verdict_deny").unwrap() < shown.find("handshake_budget").unwrap()
    };
    assert!(verdict_first(&view), "it is the more frequent one");
    press(&mut view, "s");
    assert!(!verdict_first(&view), "it comes later in the alphabet");
    press(&mut view, "p");
    assert!(view.is_paused());
    assert!(text(&drawn(80, 24, &view)).contains("PAUSED"));
    press(&mut view, " ");
    assert!(!view.is_paused());
}

#[test]
fn q_and_control_c_quit_and_q_is_a_letter_while_a_filter_is_typed() {
    let mut view = View::default();
    assert_eq!(view.press(KeyEvent::from(KeyCode::Char('q'))), Next::Quit);
    press(&mut view, "/q");
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.press(interrupt), Next::Quit);
}

#[test]
fn what_ends_is_told_with_the_time_that_is_left() {
    let left = |seconds| super::panels::left(Duration::from_secs(seconds));
    assert_eq!(
        [0, 61, 3_661, 90_000].map(left),
        ["0s", "1m 1s", "1h 1m", "1d 1h"]
    );
    let shown = text(&drawn(120, 50, &View::default()));
    assert!(
        shown.contains("over"),
        "the registry's LDAP source has ended: {shown}"
    );
}

/// `docs/top.svg` is what the README shows.
#[test]
fn the_picture_in_the_documentation_is_the_screen() {
    let drawn = picture::svg(&drawn(120, 36, &View::default()));
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/top.svg"));
    written::same(file, &drawn);
}
