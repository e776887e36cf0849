//! The screen drawn.

use std::time::SystemTime;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Block, Borders, Cell, Paragraph, Row, Table},
};

use super::{
    Seen, View,
    panels::{self, Panel, Tone, left},
};

/// Smaller terminals show nothing that makes sense.
const SMALLEST: (u16, u16) = (80, 24);
/// From this width on there are four columns of panels instead of two.
const WIDE: u16 = 160;

/// Draws what was seen as an operator wants to see it. Without `colored` it is told apart by its brightness alone.
pub fn draw(frame: &mut Frame<'_>, seen: &Seen, view: &View, now: SystemTime, colored: bool) {
    let area = frame.area();
    let (columns, rows) = SMALLEST;
    if area.width < columns || area.height < rows {
        let said = format!("the terminal is too small: make it {columns} by {rows}, or larger; q ends");
        frame.render_widget(Paragraph::new(said), area);
        return;
    }
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(heading(seen, view, now), head);
    let panels = panels::all(seen, view, now);
    for (panel, place) in panels.iter().zip(grid(body, panels.len())) {
        draw_panel(frame, panel, place, colored);
    }
    frame.render_widget(keys(view), foot);
}

fn heading(seen: &Seen, view: &View, now: SystemTime) -> Paragraph<'static> {
    let status = &seen.status;
    let up = humantime::parse_rfc3339_weak(&status.started)
        .ok()
        .and_then(|started| now.duration_since(started).ok())
        .map(|up| format!("  up {}", left(up)))
        .unwrap_or_default();
    let facts = format!(
        "spinegate {}  {}{up}  {} connections  {} systems",
        status.version, status.mode, status.connections, status.systems
    );
    // What must not be overlooked comes first: a narrow terminal cuts the line off.
    let marks = [("PAUSED", view.paused), ("IN SHADOW", !status.shadow.is_empty())];
    let mut spans = Vec::new();
    for (mark, _) in marks.into_iter().filter(|(_, is_on)| *is_on) {
        spans.push(Span::styled(mark, Style::new().add_modifier(Modifier::REVERSED)));
        spans.push(Span::raw("  "));
    }
    spans.push(Span::styled(facts, Style::new().add_modifier(Modifier::BOLD)));
    Paragraph::new(Line::from(spans))
}

fn keys(view: &View) -> Paragraph<'static> {
    let line = if view.typing {
        format!("only rows with: {}_  (Enter keeps it, Esc drops it)", view.filter)
    } else {
        let pause = if view.paused { "go on" } else { "pause" };
        let sort = if view.by_name { "rate" } else { "name" };
        let filter = match view.filter.as_str() {
            "" => String::new(),
            filter => format!(" [{filter}, Esc drops it]"),
        };
        format!("q quit  p {pause}  s sort by {sort}  / filter{filter}")
    };
    Paragraph::new(line).style(Style::new().add_modifier(Modifier::DIM))
}

/// Equal places, row by row.
fn grid(area: Rect, count: usize) -> Vec<Rect> {
    let columns = if area.width >= WIDE { 4 } else { 2 };
    let rows = Layout::vertical(vec![Constraint::Fill(1); count.div_ceil(columns)]).split(area);
    rows.iter()
        .flat_map(|row| {
            let places = Layout::horizontal(vec![Constraint::Fill(1); columns])
                .spacing(1)
                .split(*row);
            places.to_vec()
        })
        .collect()
}

fn draw_panel(frame: &mut Frame<'_>, panel: &Panel, area: Rect, colored: bool) {
    // The title's line and that of the columns.
    let room = usize::from(area.height.saturating_sub(2));
    let title = if panel.rows.len() > room {
        format!(" {} ({room} of {}) ", panel.title, panel.rows.len())
    } else {
        format!(" {} ", panel.title)
    };
    let cell = |text: &str, number: bool| {
        let alignment = if number { Alignment::Right } else { Alignment::Left };
        Cell::from(Text::from(text.to_owned()).alignment(alignment))
    };
    let rows = panel.rows.iter().take(room).map(|row| {
        let cells = row.cells.iter().zip(panel.columns);
        let cells = cells.map(|(text, (_, _, number))| cell(text, *number));
        Row::new(cells).style(style(row.tone, colored))
    });
    let widths = panel.columns.iter().map(|(_, width, _)| match width {
        Some(width) => Constraint::Length(*width),
        None => Constraint::Fill(1),
    });
    let titles = panel
        .columns
        .iter()
        .map(|(title, _, number)| cell(title, *number));
    let table = Table::new(rows, widths)
        .header(Row::new(titles).style(Style::new().add_modifier(Modifier::DIM)))
        .block(Block::new().borders(Borders::TOP).title(title));
    frame.render_widget(table, area);
}

fn style(tone: Tone, colored: bool) -> Style {
    match (tone, colored) {
        (Tone::Bad, true) => Style::new().fg(Color::Red),
        (Tone::Warn, true) => Style::new().fg(Color::Yellow),
        (Tone::Good, true) => Style::new().fg(Color::Green),
        (Tone::Bad | Tone::Warn, false) => Style::new().add_modifier(Modifier::BOLD),
        (Tone::Good, false) | (Tone::Plain, _) => Style::new(),
    }
}
