//! The part of docs/http.md that says what became of the streams.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Column, outcome::Outcome};
use crate::cases::{REFUSED, TAKEN};

const BEGIN: &str = "<!-- peers:begin -->\n";
const END: &str = "<!-- peers:end -->\n";

/// What a rule refuses and others let through, and why that matters.
const NOTES: &[(&str, &str)] = &[
    (
        "content_length_with_transfer_encoding",
        "the length is dropped (RFC 9112 section 6.3); whoever stood before and went by it saw another end",
    ),
    ("content_length_repeated", "equal lengths are taken for one"),
    (
        "content_length_malformed",
        "odd spaces are trimmed; leading zeros and a list of equal lengths are taken; haproxy reads 2^64 as 0, passes it on as it is, and takes the body for the next request",
    ),
    (
        "transfer_encoding_malformed",
        "odd spaces are trimmed; haproxy takes `chunked,` for `chunked`, and passes it on as it is",
    ),
    (
        "name_token",
        "the line is dropped; whoever stood before may have read Transfer-Encoding or Content-Length in it",
    ),
    (
        "obs_fold",
        "the lines are joined; whoever takes the second for a field of its own sees another end",
    ),
    (
        "bare_lf",
        "taken for a line end, so that what is one field to one server is two to another: Transfer-Encoding has hidden so",
    ),
    ("bare_cr", "CR CR LF is taken for a line end"),
    (
        "control_byte",
        "passed on, into the logs and terminals of those behind",
    ),
    (
        "chunk_size",
        "spaces behind a size, and any number of zeros before it",
    ),
    ("chunk_extension", "read over and dropped"),
    ("chunk_end", "LF alone behind a chunk's data"),
    ("trailer", "dropped, even a line that is no field"),
    (
        "body_unexpected",
        "passed on; a server that expects none takes it for the next request",
    ),
    ("empty_lines", "any number is skipped"),
    (
        "connection_option",
        "not heeded; a proxy behind that does heed it (RFC 9110 section 7.6.1) drops the field, such as fromASID",
    ),
    ("request_line", "any number of spaces is made one"),
    ("version_malformed", "HTTP/1.10 is taken for HTTP/1.1"),
    (
        "version",
        "older and unknown versions are passed on as they are or as HTTP/1.1; HTTP/1.0 has no chunks and no Host",
    ),
    ("method", "CONNECT and TRACE are passed on"),
    (
        "target_form",
        "`*` and URLs of other schemes are passed on or cut down to a path",
    ),
    (
        "target_host",
        "a URL that names another host than Host, or none, or a user, is passed on",
    ),
    ("target_byte", "passed on; servers read a backslash as a slash"),
    ("target_non_ascii", "passed on; servers differ in the encoding"),
    ("target_fragment", "passed on; servers cut it off, or not"),
    ("target_escape", "passed on; servers differ in what it stands for"),
    (
        "target_escaped",
        "passed on; servers decode it before or after they look at the path, some twice",
    ),
    (
        "dot_segment",
        "passed on as it came, after rules for paths were asked about another path than the server will serve",
    ),
    ("host_missing", "passed on without one"),
    ("host_repeated", "equal ones are taken"),
    ("host_malformed", "passed on; each server makes its own of it"),
    (
        "host_unknown",
        "passed on: without a list of its own names a proxy takes any",
    ),
    (
        "name_lookalike",
        "passed on, but for those with `_` or a dot, which nginx drops; servers that turn a name into a variable take both for one",
    ),
    (
        "upgrade",
        "passed on, so that another protocol can begin behind the proxy",
    ),
    ("expect", "passed on or dropped"),
    ("head_bytes", "a setting; their own is larger"),
    ("header_count", "a setting; their own is larger"),
    ("request_line_bytes", "a setting; their own is larger"),
];

/// What the proxies did.
pub(crate) struct Found(pub(crate) Vec<Column>);

impl Found {
    /// Writes the page's part if the environment says so; else it must be what was found, if the proxies' versions are those
    /// of the page.
    pub(crate) fn compare_with_page(&self) -> Result<()> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md");
        let page = fs::read_to_string(&path)?;
        let (before, rest) = page
            .split_once(BEGIN)
            .with_context(|| format!("docs/http.md has no {BEGIN}"))?;
        let (written, after) = rest
            .split_once(END)
            .with_context(|| format!("docs/http.md has no {END}"))?;
        let found = self.text()?;
        if env::var_os("SPINEGATE_WRITE_DOCS").is_some_and(|value| value == "1") {
            return Ok(fs::write(&path, [before, BEGIN, &found, END, after].concat())?);
        }
        let names: Vec<_> = self.0.iter().map(|column| column.name.as_str()).collect();
        if names.iter().any(|name| !written.contains(*name)) {
            println!("    docs/http.md tells of others than {names:?}, for which it would be:\n{found}");
            return Ok(());
        }
        ensure!(
            written == found,
            "docs/http.md does not say what was found (SPINEGATE_WRITE_DOCS=1 writes it):\n{found}"
        );
        Ok(())
    }

    fn text(&self) -> Result<String> {
        let names: Vec<_> = self.0.iter().map(|column| column.name.as_str()).collect();
        let streams: usize = REFUSED.iter().map(|class| class.cases.len()).sum();
        let mut text = format!(
            "\n| class | streams | {} |\n|---|---:|{}\n",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        let mut first = 0;
        for class in REFUSED {
            let count = class.cases.len();
            let of_class = self
                .0
                .iter()
                .map(|column| tally(column.refused.iter().skip(first).take(count)));
            text += &format!("| {} | {count} | {} |\n", class.name, joined(of_class));
            first += count;
        }
        let all = self.0.iter().map(|column| tally(column.refused.iter()));
        text += &format!("| all | {streams} | {} |\n", joined(all));

        text += &format!(
            "\n| rule | let through by {} | what they make of it |\n|---|{}---|\n",
            names.join(" | by "),
            "---:|".repeat(names.len())
        );
        for rule in rules() {
            let through: Vec<_> = self.0.iter().map(|column| column.let_through(rule)).collect();
            if through.iter().all(|count| *count == 0) {
                continue;
            }
            let note = NOTES.iter().find(|(one, _)| *one == rule);
            let (_, note) =
                note.with_context(|| format!("a proxy lets {rule} through: say why that matters"))?;
            text += &format!("| `{rule}` | {} | {note} |\n", joined(through));
        }

        let sound = self.0.iter().map(|column| {
            let passed = column.taken.iter().zip(TAKEN);
            let whole = passed.filter(|(count, (_, statuses))| **count == statuses.len());
            format!("{} passes on every request of {}", column.name, whole.count())
        });
        text += &format!(
            "\nOf the {} streams that are no more than unusual, {}.\n\n",
            TAKEN.len(),
            sound.collect::<Vec<_>>().join(", and ")
        );
        Ok(text)
    }
}

impl Column {
    /// How many streams that break a rule have reached the upstream.
    fn let_through(&self, rule: &str) -> usize {
        let cases = REFUSED.iter().flat_map(|class| class.cases);
        let of_rule = cases.zip(&self.refused).filter(|((one, _), _)| *one == rule);
        of_rule
            .filter(|(_, outcome)| **outcome != Outcome::Refused)
            .count()
    }
}

/// Every rule once, in the order of the cases.
fn rules() -> Vec<&'static str> {
    let mut rules = Vec::new();
    for (rule, _) in REFUSED.iter().flat_map(|class| class.cases) {
        if !rules.contains(rule) {
            rules.push(*rule);
        }
    }
    rules
}

fn tally<'o>(outcomes: impl Iterator<Item = &'o Outcome>) -> String {
    let outcomes: Vec<_> = outcomes.collect();
    let count = |wanted| outcomes.iter().filter(|one| ***one == wanted).count();
    [
        Outcome::Refused,
        Outcome::Rewritten,
        Outcome::Unchanged,
        Outcome::Ambiguous,
    ]
    .map(|wanted| count(wanted).to_string())
    .join(" / ")
}

fn joined(cells: impl IntoIterator<Item = impl ToString>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|cell| cell.to_string()).collect();
    cells.join(" | ")
}
