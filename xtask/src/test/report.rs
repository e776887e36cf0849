//! What passed, what failed and what was skipped, read from the lines that test harnesses print.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Instant,
};

/// The count of a whole run.
#[derive(Debug)]
pub(crate) struct Report {
    begun: Instant,
    passed: BTreeSet<String>,
    failed: BTreeMap<String, String>,
    skipped: BTreeMap<String, String>,
}

/// The tests of one package as they are printed.
pub(crate) struct Suite<'r> {
    report: &'r mut Report,
    package: String,
    target: String,
    /// A test whose verdict comes after what it prints.
    pending: Option<String>,
    seen_failure: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            passed: BTreeSet::new(),
            failed: BTreeMap::new(),
            skipped: BTreeMap::new(),
        }
    }
}

impl Report {
    /// Heads what a step prints with its name, and with the time from the beginning of the run.
    pub(crate) fn begin(&self, name: &str) {
        println!("\n== {name} (after {} s)", self.begun.elapsed().as_secs());
    }

    /// A step or a test passed.
    pub(crate) fn passed(&mut self, name: &str) {
        self.passed.insert(name.to_owned());
    }

    /// A step or a test failed.
    pub(crate) fn failed(&mut self, name: &str, why: &str) {
        self.passed.remove(name);
        self.failed.insert(name.to_owned(), why.to_owned());
    }

    /// A test was not made.
    pub(crate) fn skipped(&mut self, name: &str, why: &str) {
        self.skipped.insert(name.to_owned(), why.to_owned());
    }

    /// Something that holds if each of these tests ran to its end and passed.
    pub(crate) fn proven(&mut self, name: &str, tests: &[String]) {
        match tests.iter().find(|test| !self.has_passed(test)) {
            None => self.passed(name),
            Some(test) if self.was_skipped(test) => self.skipped(name, &format!("{test} was skipped")),
            Some(test) => self.failed(name, &format!("no test {test} has run and passed")),
        }
    }

    /// Whether a test with this name ran to its end and passed.
    fn has_passed(&self, name: &str) -> bool {
        self.passed.contains(name) && !self.skipped.contains_key(name)
    }

    /// Whether a test with this name was skipped.
    fn was_skipped(&self, name: &str) -> bool {
        self.skipped.contains_key(name)
    }

    /// Reads the output of a package's tests.
    pub(crate) fn suite(&mut self, package: &str) -> Suite<'_> {
        Suite {
            report: self,
            package: package.to_owned(),
            target: String::new(),
            pending: None,
            seen_failure: false,
        }
    }

    /// Names what failed and what was skipped, prints the closing line, and says how the process ends.
    pub(crate) fn close(mut self, allow_skips: bool) -> ExitCode {
        // A test that skips itself ends well in the eyes of its harness.
        self.passed.retain(|name| !self.skipped.contains_key(name));
        for (name, why) in &self.failed {
            println!("FAILED {name}: {why}");
        }
        for (name, why) in &self.skipped {
            println!("SKIPPED {name}: {why}");
        }
        let (passed, failed, skipped) = (self.passed.len(), self.failed.len(), self.skipped.len());
        if skipped > 0 && !allow_skips {
            println!("Skipped tests count as failure; --allow-skips accepts them.");
        }
        println!("\nall steps in {} s", self.begun.elapsed().as_secs());
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 && (skipped == 0 || allow_skips) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl Suite<'_> {
    /// Reads one line.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(target) = target(line) {
            self.target = target;
            self.pending = None;
        } else if let Some((name, why)) = line
            .split_once("SKIPPED ")
            .and_then(|(_, rest)| rest.split_once(": "))
        {
            let name = self.named(name.trim());
            self.report.skipped(&name, why.trim());
        } else if let Some(rest) = line.strip_prefix("test ") {
            match rest.rsplit_once(" ... ") {
                Some((name, verdict)) => self.verdict(name, verdict),
                None => self.pending = rest.strip_suffix(" ...").map(|name| name.trim().to_owned()),
            }
        } else if let Some(name) = self.pending.clone()
            && matches!(line, "ok" | "FAILED" | "ignored")
        {
            self.verdict(&name, line);
        }
    }

    /// The program has ended. If it failed without naming a test, that is a failure of its own.
    pub(crate) fn end(self, succeeded: bool) {
        if !succeeded && !self.seen_failure {
            let why = "it failed without naming a failed test; its output above says more";
            self.report.failed(&self.package, why);
        }
    }

    fn verdict(&mut self, name: &str, verdict: &str) {
        // Doc tests and should-panic tests carry a remark behind the name.
        let name = self.named(name.split(" - should panic").next().unwrap_or(name));
        let verdict = verdict.trim();
        if verdict == "ok" || verdict.starts_with("ok <") {
            self.report.passed(&name);
        } else if verdict.starts_with("FAILED") {
            self.seen_failure = true;
            self.report.failed(&name, "see its output above");
        } else if verdict.starts_with("ignored") {
            self.report.skipped(&name, "it is marked as ignored");
        } else {
            // With --nocapture the test's own output can stand before the verdict, which then comes on a line of its own.
            self.pending = Some(name.clone());
        }
        if !matches!(&self.pending, Some(pending) if *pending == name) {
            self.pending = None;
        }
    }

    /// `package::module::test` for a unit test, `package::target::test` for one under tests/.
    fn named(&self, test: &str) -> String {
        let prefix = if self.target.is_empty() {
            self.package.clone()
        } else {
            format!("{}::{}", self.package, self.target)
        };
        if test.starts_with(&format!("{prefix}::")) {
            test.to_owned()
        } else {
            format!("{prefix}::{test}")
        }
    }
}

/// The name of the test target that cargo says it runs now; empty for unit tests.
fn target(line: &str) -> Option<String> {
    let line = line.trim_start();
    if line.starts_with("Doc-tests ") {
        return Some("doc".to_owned());
    }
    let source = line.strip_prefix("Running ")?;
    let source = source.strip_prefix("unittests ").map_or(source, |_| "");
    let file = source.split(' ').next().unwrap_or_default();
    // A target of several files is named after the folder that its `main.rs` stands in.
    let file = file.strip_suffix("/main.rs").unwrap_or(file);
    let name = file.rsplit('/').next().unwrap_or_default();
    Some(name.strip_suffix(".rs").unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str, succeeded: bool) -> Report {
        let mut report = Report::default();
        let mut suite = report.suite("spinegate");
        lines.lines().for_each(|line| suite.line(line));
        suite.end(succeeded);
        report
    }

    #[test]
    fn each_test_is_counted_under_the_name_of_its_target() {
        let report = read(
            "     Running unittests src/lib.rs (target/debug/deps/spinegate-1)\n\
             test tls::tests::one ... ok\n\
             test two - should panic ... ok\n\
             test three ... ignored, for now\n\
             \x20    Running tests/filter_packets.rs (target/debug/deps/filter_packets-1)\n\
             test four ... FAILED\n\
             SKIPPED five: needs root\n\
             test five ... ok\n\
             \x20    Running tests/parser/main.rs (target/debug/deps/parser-1)\n\
             test whole::six ... ok\n",
            false,
        );
        let passed: Vec<_> = report.passed.iter().map(String::as_str).collect();
        assert_eq!(
            passed,
            [
                "spinegate::filter_packets::five",
                "spinegate::parser::whole::six",
                "spinegate::tls::tests::one",
                "spinegate::two"
            ]
        );
        assert!(!report.has_passed("spinegate::filter_packets::five"));
        assert!(report.has_passed("spinegate::tls::tests::one"));
        assert_eq!(
            report.failed.keys().collect::<Vec<_>>(),
            ["spinegate::filter_packets::four"]
        );
        assert_eq!(
            report.skipped.keys().collect::<Vec<_>>(),
            ["spinegate::filter_packets::five", "spinegate::three"]
        );
    }

    #[test]
    fn a_verdict_behind_the_tests_own_output_is_found() {
        let report = read(
            "test a ... SKIPPED a: no reason\nok\ntest b ... some output\nFAILED\ntest c ...\nok\n",
            false,
        );
        assert!(report.was_skipped("spinegate::a"));
        assert!(report.has_passed("spinegate::c"));
        assert_eq!(report.failed.keys().collect::<Vec<_>>(), ["spinegate::b"]);
    }

    #[test]
    fn a_program_that_fails_without_a_failed_test_is_a_failure() {
        assert_eq!(read("error: could not compile", false).failed.len(), 1);
        assert_eq!(read("test a ... ok", true).failed.len(), 0);
    }
}
