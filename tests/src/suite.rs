//! Runs the tests of a black-box suite one after the other over one lab, and takes the lab down whatever happens.
//!
//! libtest has no end of a suite to take a lab down at; this prints what it prints, and knows its arguments that matter.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use anyhow::Result;
use toml::Table;

use crate::lab::{Lab, Plan, obstacle};

/// A test: its name, which is a sentence, and what it does.
pub type Test = (&'static str, fn(&mut Lab) -> Result<()>);

/// A suite: the tests of one file under `tests/`.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name: the file's.
    pub name: &'static str,
    /// What its lab's configuration has different.
    pub edit: fn(&mut Table),
    /// The tests.
    pub tests: &'static [Test],
}

/// Lists tests by the names of their functions.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => { &[$((stringify!($name), $name as fn(&mut $crate::lab::Lab) -> anyhow::Result<()>),)+] };
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    list: bool,
    exact: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

impl Suite {
    /// Runs the tests that the command line asks for.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        self.run_unless(|| None)
    }

    /// The same, where nothing of the suite's own stands against it; what does is told, and its tests count as skipped.
    #[must_use]
    pub fn run_unless(&self, own_obstacle: fn() -> Option<String>) -> ExitCode {
        let request = Request::read(env::args().skip(1));
        let (wanted, unwanted): (Vec<Test>, Vec<Test>) =
            self.tests.iter().partition(|(name, _)| request.wants(name));
        if request.list {
            wanted.iter().for_each(|(name, _)| println!("{name}: test"));
            return ExitCode::SUCCESS;
        }
        println!("\nrunning {} tests", wanted.len());
        let begin = Instant::now();
        let failures = match obstacle().or_else(own_obstacle) {
            Some(why) => {
                wanted
                    .iter()
                    .for_each(|(name, _)| println!("SKIPPED {name}: {why}"));
                Vec::new()
            }
            None => self.run_all(&wanted),
        };
        for (name, why) in &failures {
            println!("\n---- {name} ----\n{why}");
        }
        println!(
            "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            if failures.is_empty() { "ok" } else { "FAILED" },
            wanted.len() - failures.len(),
            failures.len(),
            unwanted.len(),
            begin.elapsed().as_secs_f32()
        );
        if failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn run_all(&self, tests: &[Test]) -> Vec<(&'static str, String)> {
        let mut lab = None;
        let mut failures = Vec::new();
        for (name, test) in tests {
            let ready = match lab.take() {
                Some(lab) => Ok(lab),
                None => Plan::of_suite(self.name).and_then(|plan| {
                    Lab::up(Plan {
                        edit: self.edit,
                        ..plan
                    })
                }),
            };
            let failure = match ready {
                Err(error) => Some(format!("the lab is not up: {error:#}")),
                Ok(mut up) => {
                    let failure = attempt(*test, &mut up);
                    // After a failure the next test gets a lab of its own: what the failed one left behind is unknown.
                    if failure.is_none() {
                        lab = Some(up);
                    }
                    failure
                }
            };
            println!(
                "test {name} ... {}",
                if failure.is_some() { "FAILED" } else { "ok" }
            );
            failures.extend(failure.map(|why| (*name, why)));
        }
        failures
    }
}

fn attempt(test: fn(&mut Lab) -> Result<()>, lab: &mut Lab) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| test(lab))) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()))
                .unwrap_or_else(|| "it panicked".to_owned()),
        ),
    }
}

impl Request {
    fn read(arguments: impl Iterator<Item = String>) -> Self {
        let mut request = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => request.list = true,
                "--exact" => request.exact = true,
                "--skip" => request.skips.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "-Z" => {
                    arguments.next();
                }
                option if option.starts_with('-') => {}
                _ => request.filters.push(argument),
            }
        }
        request
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |pattern: &String| {
            if self.exact {
                name == pattern
            } else {
                name.contains(pattern.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skips.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        Request::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_arguments_of_libtest_choose_tests() {
        assert!(request("").wants("anything"));
        assert!(request("--test-threads 1 --nocapture").wants("anything"));
        assert!(request("thing --test-threads=1").wants("anything"));
        assert!(!request("--exact thing").wants("anything"));
        assert!(!request("--skip thing").wants("anything"));
        assert!(request("--list").list);
    }
}
