//! A program on a terminal of its own: what it draws, and the keys that it is given.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    unistd::ttyname,
};

use crate::{command::Run, wait::wait_until};

/// A running program, killed when it is dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    device: PathBuf,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a program on a terminal of this size.
    ///
    /// # Errors
    /// There is no terminal to be had, or the program can't be started.
    pub fn start(run: &Run, columns: u16, rows: u16) -> Result<Self> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).context("no terminal to be had")?;
        let device = ttyname(&slave)?;
        let end = |slave: &OwnedFd| -> Result<Stdio> { Ok(slave.as_fd().try_clone_to_owned()?.into()) };
        // It becomes the terminal's own session: only then its keys and its size become signals.
        let child = Run::new("setsid")
            .args(["--ctty", "--wait"])
            .args(run.words())
            .command()
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(end(&slave)?)
            .stdout(end(&slave)?)
            .stderr(end(&slave)?)
            .spawn()
            .with_context(|| format!("can't start `{run}`"))?;
        drop(slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (drawn, mut output) = (Arc::clone(&screen), File::from(master.try_clone()?));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // When the program has ended the kernel says EIO.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                lock(&drawn).process(bytes.get(..count).unwrap_or_default());
            }
        });
        Ok(Self {
            child,
            keys: master.into(),
            device,
            screen,
        })
    }

    /// What is on the screen.
    #[must_use]
    pub fn text(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Whether anything on the screen has a colour.
    #[must_use]
    pub fn is_colored(&self) -> bool {
        let parser = lock(&self.screen);
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let mut places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places.any(|(row, column)| {
            let cell = screen.cell(row, column);
            cell.is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        })
    }

    /// Whether the program has the whole screen to itself, and will give it back.
    #[must_use]
    pub fn is_alternate(&self) -> bool {
        lock(&self.screen).screen().alternate_screen()
    }

    /// Waits until the screen has a text.
    ///
    /// # Errors
    /// It has not within the limit; the message shows it.
    pub fn shows(&self, text: &str, limit: Duration) -> Result<()> {
        wait_until(&format!("{text:?} on the screen"), limit, || {
            Ok(self.text().contains(text))
        })
        .with_context(|| format!("the screen is\n{}", self.text()))
    }

    /// Presses keys.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys
            .write_all(keys.as_bytes())
            .context("the terminal is gone")
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// `stty` is not there, or refuses it.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        lock(&self.screen).screen_mut().set_size(rows, columns);
        Run::new("stty")
            .arg("-F")
            .arg(&self.device)
            .args(["cols", &columns.to_string(), "rows", &rows.to_string()])
            .success()
            .map(drop)
    }

    /// Waits for the program's end, and gives its exit status.
    ///
    /// # Errors
    /// It did not end in time; the message shows the screen.
    pub fn end(&mut self, limit: Duration) -> Result<Option<i32>> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if begin.elapsed() > limit {
                bail!("it did not end within {limit:?}; the screen is\n{}", self.text());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
