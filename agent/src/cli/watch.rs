//! `--watch`: what a command shows, again and again, until Ctrl-C or until the agent goes.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use clap::Args;
use ratatui::crossterm::terminal;

use super::{Exit, Failure, Format, output};

/// Puts the cursor in the corner and clears what is below (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";
/// Between two of them where there is no terminal.
const SEPARATOR: &str = "---\n";
/// An agent that stops breaks an answer off, and is gone a little later.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Watched {
    #[command(flatten)]
    pub(super) format: Format,
    /// Show it again every so many seconds, until Ctrl-C: on a terminal in its place, else one after the other.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    watch: Option<u32>,
}

impl Watched {
    pub(super) const fn is_on(&self) -> bool {
        self.watch.is_some()
    }

    /// Asks for what is to be shown, and shows it: as `render` has it, or as JSON.
    pub(super) fn show<T: serde::Serialize>(
        self,
        mut ask: impl FnMut() -> Result<T, Failure>,
        render: impl Fn(&T) -> String,
    ) -> Result<Exit, Failure> {
        let Some(seconds) = self.watch else {
            let answer = ask()?;
            return if self.format.json {
                output::json(&answer)
            } else {
                output::text(&render(&answer))
            };
        };
        let interrupted = interrupts()?;
        let height = output::look().width.and_then(|_| terminal::size().ok());
        let mut is_first = true;
        loop {
            let answer = asked(&mut ask)?;
            let shown = if self.format.json {
                output::json_line(&answer)?
            } else {
                let text = render(&answer);
                match height {
                    Some((_, rows)) => output::stream(&format!("{CLEAR}{}", top_of(&text, rows)))?,
                    None if is_first => output::stream(&text)?,
                    None => output::stream(&format!("{SEPARATOR}{text}"))?,
                }
            };
            if shown.is_break() {
                return Ok(Exit::Done);
            }
            is_first = false;
            let rest = Duration::from_secs(seconds.into());
            if interrupted.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
                return Ok(Exit::Done);
            }
        }
    }
}

/// An agent that stops is gone, whatever its last answer was.
fn asked<T>(ask: &mut impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    ask().or_else(|failure| {
        if failure.exit() != Exit::Refused {
            return Err(failure);
        }
        thread::sleep(LAST_WORDS);
        ask()
    })
}

/// What a terminal has room for: what is cut off could not be reached by scrolling either.
fn top_of(text: &str, rows: u16) -> String {
    let rows = usize::from(rows.saturating_sub(1)).max(1);
    let count = text.lines().count();
    if count <= rows {
        return text.to_owned();
    }
    let kept: Vec<_> = text.lines().take(rows - 1).collect();
    format!("{}\n… {} more lines\n", kept.join("\n"), count - rows + 1)
}

/// Has Ctrl-C end the command as something that it was meant to end with.
fn interrupts() -> Result<mpsc::Receiver<()>, Failure> {
    let cannot = |error: io::Error| {
        Failure::new(
            Exit::Refused,
            format!("Ctrl-C can't be waited for: {error}; run without --watch"),
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let mut interrupts = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(cannot)?
    };
    let (tell, interrupted) = mpsc::channel();
    thread::spawn(move || {
        runtime.block_on(interrupts.recv());
        // Nobody waits for it if the command has ended otherwise.
        let _ = tell.send(());
    });
    Ok(interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_the_terminal_and_says_so() {
        assert_eq!(top_of("a\nb\n", 3), "a\nb\n");
        assert_eq!(top_of("a\nb\nc\n", 3), "a\n… 2 more lines\n");
        assert_eq!(top_of("a\nb\n", 0), "\n… 2 more lines\n");
    }

    #[test]
    fn an_agent_that_breaks_off_is_asked_once_more() {
        let mut answers = [Exit::Refused, Exit::NotRunning].into_iter();
        let mut ask = || -> Result<(), Failure> { Err(Failure::new(answers.next().unwrap(), "x")) };
        assert_eq!(asked(&mut ask).unwrap_err().exit(), Exit::NotRunning);
    }
}
