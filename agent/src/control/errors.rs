//! The refused connections and requests: the latest are kept, and new ones go to every caller that follows.

use tokio::sync::broadcast::error::RecvError;

use super::{
    ErrorReport, ErrorsWanted, EventsMissed, Failure, Response,
    ring::{Ring, Tail},
};

/// What was refused of late.
#[derive(Debug, Default)]
pub struct Errors(Ring<ErrorReport>);

impl Errors {
    /// Keeps a refusal, without what may not be kept of it, and sends it to those who follow.
    pub fn publish(&self, mut report: ErrorReport) {
        for text in [&mut report.detail, &mut report.request].into_iter().flatten() {
            *text = masked(text);
        }
        self.0.push(report);
    }

    /// Opens a feed.
    ///
    /// # Errors
    /// If too many callers follow already.
    pub fn feed(&self, wanted: &ErrorsWanted) -> Result<ErrorFeed, Failure> {
        self.0.tail(wanted.last, wanted.follow, |_| true).map(ErrorFeed)
    }
}

/// The refusals that one caller gets.
#[derive(Debug)]
pub struct ErrorFeed(Tail<ErrorReport>);

impl ErrorFeed {
    /// The next one, or how many the caller does not get; none at the end. Nothing is lost if it is dropped meanwhile.
    pub async fn next(&mut self) -> Option<Response> {
        if let Some(report) = self.0.first.pop_front() {
            return Some(Response::Refusal(report.as_ref().clone()));
        }
        match self.0.live.as_mut()?.items.recv().await {
            Ok(report) => Some(Response::Refusal(report.as_ref().clone())),
            Err(RecvError::Lagged(behind)) => {
                Some(Response::EventsMissed(EventsMissed { unsampled: 0, behind }))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

/// A text without tokens and NHS numbers. The details of refusals should have neither; what a client sends in a wrong place
/// may come to stand there all the same.
fn masked(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_inclusive(char::is_whitespace) {
        let follows_scheme = words
            .last()
            .is_some_and(|last| last.trim_end().eq_ignore_ascii_case("bearer"));
        // Every JWT begins so: it is `{"` in base64.
        match word.find("eyJ") {
            _ if follows_scheme => words.push("[token]".to_owned() + gap(word)),
            Some(at) => words.push(word.get(..at).unwrap_or_default().to_owned() + "[token]" + gap(word)),
            None => words.push(word.to_owned()),
        }
    }
    without_numbers(&words.concat())
}

/// The white space that ends a word.
fn gap(word: &str) -> &str {
    word.get(word.trim_end().len()..).unwrap_or_default()
}

/// NHS numbers have ten digits, in one or as 3-3-4. Longer runs may hold one, but for the twelve digits of an ASID.
fn without_numbers(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, run) = rest.split_at(begin);
        masked.push_str(before);
        let mut end = 0;
        let mut digits = 0;
        let mut bytes = run.bytes().enumerate().peekable();
        while let Some((at, byte)) = bytes.next() {
            let next = bytes.peek().is_some_and(|(_, next)| next.is_ascii_digit());
            match byte {
                b'0'..=b'9' => {
                    digits += 1;
                    end = at + 1;
                }
                b' ' | b'-' if next => {}
                _ => break,
            }
        }
        let (run, after) = run.split_at(end);
        let is_asid = run.len() == 12 && digits == 12 && !before.ends_with('%');
        masked.push_str(if digits < 10 || is_asid { run } else { "[number]" });
        rest = after;
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_and_nhs_numbers_are_masked_and_asids_are_not() {
        for (text, shown) in [
            (
                "fromASID 200000000101 at byte 17",
                "fromASID 200000000101 at byte 17",
            ),
            ("not for 9876543210: n", "not for [number]: n"),
            ("987 654 3210 and 987-654-3210", "[number] and [number]"),
            ("Patient%2F9876543210&x", "Patient%2F[number]&x"),
            ("subject=%209876543210", "subject=%[number]"),
            ("Bearer abc.def said", "Bearer [token] said"),
            ("\"eyJhbGciOiJub25lIn0.e30.\" is none", "\"[token] is none"),
            ("", ""),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    proptest! {
        #[test]
        fn no_nhs_number_survives_wherever_it_stands(before in "\\PC{0,20}", after in "\\PC{0,20}", number in "[0-9]{10}") {
            let text = format!("{before} {number}/{after}");
            let shown = masked(&text);
            prop_assert!(!shown.contains(&number) || before.contains(&number) || after.contains(&number), "{shown}");
        }
    }

    #[tokio::test]
    async fn the_latest_come_in_their_order_and_then_those_to_come() {
        let errors = Errors::default();
        let report = |id: &str| ErrorReport {
            decision_id: id.to_owned(),
            ..ErrorReport::default()
        };
        errors.publish(report("1"));
        errors.publish(report("2"));
        let mut feed = errors
            .feed(&ErrorsWanted {
                last: 1,
                follow: true,
            })
            .unwrap();
        errors.publish(report("3"));
        for id in ["2", "3"] {
            assert_eq!(feed.next().await, Some(Response::Refusal(report(id))));
        }
        let mut ended = errors
            .feed(&ErrorsWanted {
                last: 9,
                follow: false,
            })
            .unwrap();
        for id in ["1", "2", "3"] {
            assert_eq!(ended.next().await, Some(Response::Refusal(report(id))));
        }
        assert_eq!(ended.next().await, None);
    }
}
