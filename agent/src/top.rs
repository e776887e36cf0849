//! The screen of `spinegate top`: what is on it, and what the keys do to it. Nothing here reads or waits.

mod draw;
mod panels;
#[cfg(test)]
mod picture;
#[cfg(test)]
mod tests;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{
    control::{Status, VerdictEntry},
    rates::Rates,
};

pub use draw::draw;

/// What was read of the agent.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What happened since the reading before.
    pub rates: Rates,
    /// How the agent is.
    pub status: Status,
    /// The verdicts in force.
    pub verdicts: Vec<VerdictEntry>,
}

/// How an operator wants to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    by_name: bool,
    paused: bool,
    filter: String,
    /// The filter is being typed.
    typing: bool,
}

/// What comes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Stay,
    /// It ends.
    Quit,
}

impl View {
    /// Does what a key says.
    pub fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Stay;
        }
        // In raw mode it is a key like any other.
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Next::Quit;
        }
        if self.typing {
            match key.code {
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => {
                    self.typing = false;
                    self.filter.clear();
                }
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(c) => self.filter.push(c),
                _ => {}
            }
            return Next::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.by_name = !self.by_name,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        Next::Stay
    }

    /// Whether what is shown stays as it is.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused
    }
}
