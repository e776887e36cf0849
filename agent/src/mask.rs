//! Texts without what may not be kept: tokens and NHS numbers.

/// A text without tokens and NHS numbers. The details of refusals should have neither; what a client sends in a wrong place
/// may come to stand there all the same.
#[must_use]
pub fn masked(text: &str) -> String {
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

/// A path without segments that are an NHS number. None if it has none. Ids of pointers, which have digits too, stay as they
/// are: they lead from the log to the record.
#[must_use]
pub fn masked_path(path: &str) -> Option<String> {
    let is_number = |segment: &str| {
        let mut digits = 0;
        let plain = segment.bytes().all(|byte| {
            digits += usize::from(byte.is_ascii_digit());
            byte.is_ascii_digit() || byte == b'-'
        });
        plain && digits == 10
    };
    if !path.split('/').any(is_number) {
        return None;
    }
    let segments: Vec<&str> = path
        .split('/')
        .map(|segment| if is_number(segment) { "[number]" } else { segment })
        .collect();
    Some(segments.join("/"))
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

    use super::{masked, masked_path};

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

    #[test]
    fn an_nhs_number_in_a_path_is_masked_and_the_id_of_a_pointer_is_not() {
        assert_eq!(
            masked_path("/Patient/9876543210/987-654-3210").as_deref(),
            Some("/Patient/[number]/[number]")
        );
        for path in [
            "/STU3/DocumentReference/11111111-1111-1111-1111-111111111111-1",
            "/987654321",
            "",
        ] {
            assert_eq!(masked_path(path), None);
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
}
