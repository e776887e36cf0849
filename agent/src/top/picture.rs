//! The screen as a picture for the documentation.

use std::fmt::Write as _;

use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier},
};

/// Of a cell, in the picture's units.
const CELL: (usize, usize) = (8, 17);
const MARGIN: usize = 10;

/// An SVG of a buffer: a line of text for each run of cells of one style.
pub(super) fn svg(buffer: &Buffer) -> String {
    let (width, height) = (usize::from(buffer.area.width), usize::from(buffer.area.height));
    let (total_width, total_height) = (width * CELL.0 + 2 * MARGIN, height * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total_width} {total_height}\" width=\"{total_width}\" \
         height=\"{total_height}\">\n<title>spinegate top</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#15191e\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\">\n"
    );
    for y in 0..buffer.area.height {
        let mut runs: Vec<(u16, Color, Modifier, String)> = Vec::new();
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            match runs.last_mut() {
                Some((_, color, modifier, text)) if (*color, *modifier) == (cell.fg, cell.modifier) => {
                    text.push_str(cell.symbol());
                }
                _ => runs.push((x, cell.fg, cell.modifier, cell.symbol().to_owned())),
            }
        }
        for (x, color, modifier, text) in runs {
            if text.trim().is_empty() {
                continue;
            }
            let blanks = text.len() - text.trim_start().len();
            let text = text.trim();
            let fill = match color {
                Color::Red => "#ff7b72",
                Color::Yellow => "#e3b341",
                Color::Green => "#7ee787",
                _ if modifier.contains(Modifier::DIM) => "#8b949e",
                _ => "#e6edf3",
            };
            let weight = if modifier.contains(Modifier::BOLD) {
                " font-weight=\"bold\""
            } else {
                ""
            };
            let escaped = text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                // Else several blanks are drawn as one.
                .replace(' ', "\u{a0}");
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" textLength=\"{}\" fill=\"{fill}\"{weight}>{escaped}</text>",
                MARGIN + (usize::from(x) + blanks) * CELL.0,
                MARGIN + usize::from(y) * CELL.1 + 13,
                text.chars().count() * CELL.0,
            )
            .unwrap();
        }
    }
    svg + "</g>\n</svg>\n"
}
