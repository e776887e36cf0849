//! Runs one program to its end, bounded in time, with errors that show the command and what it said.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// A program with its arguments, not yet run.
#[derive(Clone, Debug)]
pub struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Option<String>,
    limit: Duration,
}

impl Run {
    /// A program, with a time limit of 10 s.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdin: None,
            limit: Duration::from_secs(10),
        }
    }

    /// A program in a network namespace. Only the network changes: `/sys`, and bpffs in it, stay those of the host,
    /// which `ip netns exec` would hide.
    pub fn inside(namespace: &str, program: impl AsRef<OsStr>) -> Self {
        Self::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .arg("--")
            .arg(program)
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the program's environment, which else is this process's.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the program reads from its standard input; without it, an empty one.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// The time after which the program is killed.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The program and its arguments, for another program that runs it.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        let program = std::iter::once(&self.program);
        program.chain(&self.arguments).cloned().collect()
    }

    /// The program as a [`Command`], for one that is to stay.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end, whatever its exit status.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn output(&self) -> Result<Finished> {
        let mut child = self
            .command()
            .stdin(if self.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("can't start `{self}`: is it installed? `cargo xtask setup` installs it")
            })?;
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        if let (Some(text), Some(mut pipe)) = (&self.stdin, child.stdin.take()) {
            // A program that ends before it has read everything breaks the pipe; its status says more than that.
            let _ = pipe.write_all(text.as_bytes());
        }
        let (code, timed_out) = finish(&mut child, self.limit)?;
        Ok(Finished {
            command: self.to_string(),
            code,
            timed_out,
            stdout: joined(stdout)?,
            stderr: joined(stderr)?,
        })
    }

    /// Runs the program and gives what it wrote to its standard output.
    ///
    /// # Errors
    /// It can't be started, takes too long, or its exit status is not 0.
    pub fn success(&self) -> Result<String> {
        let finished = self.output()?;
        if finished.timed_out {
            bail!("`{self}` did not end within {:?}", self.limit);
        }
        if finished.code != Some(0) {
            bail!("`{self}` failed ({}): {}", finished.ending(), finished.said());
        }
        Ok(finished.stdout)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        for argument in &self.arguments {
            let argument = argument.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@+%".contains(c);
            if !argument.is_empty() && argument.chars().all(plain) {
                write!(f, " {argument}")?;
            } else {
                write!(f, " '{}'", argument.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line.
    pub command: String,
    /// Its exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// Whether it was killed because it took too long.
    pub timed_out: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// What it wrote, standard error first, without surrounding blanks.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}\n{}", self.stderr.trim(), self.stdout.trim())
            .trim()
            .to_owned()
    }

    fn ending(&self) -> String {
        self.code.map_or_else(
            || "ended by a signal".to_owned(),
            |code| format!("exit status {code}"),
        )
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<std::io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

fn joined(reader: Option<JoinHandle<std::io::Result<Vec<u8>>>>) -> Result<String> {
    let Some(reader) = reader else {
        return Ok(String::new());
    };
    let bytes = reader
        .join()
        .map_err(|_| anyhow!("the thread that read a program's output panicked"))??;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn finish(child: &mut Child, limit: Duration) -> Result<(Option<i32>, bool)> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status.code(), false));
        }
        if begin.elapsed() > limit {
            child.kill()?;
            return Ok((child.wait()?.code(), true));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_reported_with_its_command_and_its_words() {
        let error = Run::new("sh")
            .args(["-c", "echo the mend >&2; exit 3"])
            .success()
            .unwrap_err()
            .to_string();
        assert!(error.contains("sh -c 'echo the mend >&2; exit 3'"), "{error}");
        assert!(
            error.contains("exit status 3") && error.contains("the mend"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let run = Run::new("sleep").arg("30").within(Duration::from_millis(50));
        assert!(run.output().unwrap().timed_out);
        assert!(
            run.success()
                .unwrap_err()
                .to_string()
                .contains("did not end within")
        );
    }

    #[test]
    fn standard_input_reaches_the_program() {
        assert_eq!(Run::new("cat").stdin("text").success().unwrap(), "text");
    }
}
