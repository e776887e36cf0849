//! Tables: aligned columns, titles that stand out on a terminal, and words that say by their colour how bad it is.

use comfy_table::{Attribute, Cell, ContentArrangement, presets};

use super::output::{self, Look, printable};

/// What the colour of a cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing.
    Plain,
    /// As it should be.
    Good,
    /// To be seen to.
    Warn,
    /// Not as it should be.
    Bad,
}

/// A column, and what the colour of a cell in it says.
type Toned = (usize, fn(&str) -> Tone);

/// Rows with aligned columns.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    titles: Option<[&'static str; N]>,
    rows: Vec<[String; N]>,
    tones: Vec<Toned>,
}

impl<const N: usize> Table<N> {
    /// A table with a row of titles.
    pub(super) const fn titled(titles: [&'static str; N]) -> Self {
        Self {
            titles: Some(titles),
            rows: Vec::new(),
            tones: Vec::new(),
        }
    }

    /// A table without titles.
    pub(super) const fn untitled() -> Self {
        Self {
            titles: None,
            rows: Vec::new(),
            tones: Vec::new(),
        }
    }

    /// Has the cells of a column, counted from 0, tell by their colour how bad it is.
    #[must_use]
    pub(super) fn toned(mut self, column: usize, tone: fn(&str) -> Tone) -> Self {
        self.tones.push((column, tone));
        self
    }

    /// Adds a row.
    pub(super) fn row<T: ToString>(&mut self, cells: [T; N]) {
        self.rows.push(cells.map(|cell| printable(&cell.to_string())));
    }

    /// The table as it looks on standard output, with a line end after each row.
    pub(super) fn render(&self) -> String {
        self.render_for(output::look())
    }

    fn render_for(&self, look: Look) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        match look.width {
            Some(width) => table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if look.color {
            table.enforce_styling().style_text_only();
        } else {
            table.force_no_tty();
        }
        if let Some(titles) = self.titles {
            table.set_header(titles.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        }
        for row in &self.rows {
            let cells = row.iter().enumerate();
            table.add_row(cells.map(|(column, text)| self.cell(column, text)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn cell(&self, column: usize, text: &str) -> Cell {
        let cell = Cell::new(text);
        let tone = self.tones.iter().find(|(toned, _)| *toned == column);
        match tone.map_or(Tone::Plain, |(_, tone)| tone(text)) {
            Tone::Plain => cell,
            Tone::Good => cell.fg(comfy_table::Color::Green),
            Tone::Warn => cell.fg(comfy_table::Color::Yellow),
            Tone::Bad => cell.fg(comfy_table::Color::Red).add_attribute(Attribute::Bold),
        }
    }
}

/// Of a state, as the agent calls it: of a CRL, a source of the registry, an upstream.
pub(super) fn state(text: &str) -> Tone {
    match text.split(' ').next().unwrap_or_default() {
        "fresh" | "listed" | "up" => Tone::Good,
        "grace" | "trial" => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// Of days that are left.
pub(super) fn days(text: &str) -> Tone {
    match text.parse::<i64>() {
        Ok(..0) => Tone::Bad,
        Ok(0..30) => Tone::Warn,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Look = Look {
        color: false,
        width: None,
    };

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::titled(["NAME", "KIND"]);
        table.row(["é", "proxy"]);
        table.row(["longer", ""]);
        assert_eq!(table.render_for(PIPE), "NAME    KIND\né       proxy\nlonger\n");
        let titles = Table::titled(["NAME", "KIND"]);
        assert_eq!(titles.render_for(PIPE), "NAME  KIND\n");
        assert_eq!(Table::<2>::untitled().render_for(PIPE), "");
    }

    #[test]
    fn control_characters_are_written_out() {
        let mut table = Table::untitled();
        table.row(["a\u{1b}[2Jb\nc"]);
        assert_eq!(table.render_for(PIPE), "a\\u{1b}[2Jb\\nc\n");
        let colored = table.render_for(Look {
            color: true,
            width: None,
        });
        assert!(!colored.contains('\u{1b}'), "{colored:?}");
    }

    #[test]
    fn a_pipe_gets_whole_rows_and_a_narrow_terminal_wrapped_ones() {
        let mut table = Table::titled(["NAME", "WHAT"]);
        let long = "word ".repeat(60);
        table.row(["a", &long]);
        assert_eq!(table.render_for(PIPE).lines().count(), 2);
        let narrow = table.render_for(Look {
            color: false,
            width: Some(40),
        });
        assert!(narrow.lines().count() > 5, "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    }

    #[test]
    fn the_colour_of_a_cell_tells_how_bad_it_is_and_nothing_else_has_one() {
        let mut table = Table::titled(["CRL", "STATE"]).toned(1, state);
        table.row(["a", "fresh"]);
        table.row(["b", "stale"]);
        let colored = table.render_for(Look {
            color: true,
            width: None,
        });
        let lines: Vec<_> = colored.lines().collect();
        assert!(lines[0].starts_with("\u{1b}[1mCRL"), "{colored:?}");
        assert!(
            lines[1].contains("a    \u{1b}[38;5;10mfresh\u{1b}[39m"),
            "{colored:?}"
        );
        assert!(lines[2].contains("\u{1b}[38;5;9m"), "{colored:?}");
        assert!(!table.render_for(PIPE).contains('\u{1b}'));
    }
}
