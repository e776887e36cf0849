//! A refusal: one reason, and what to tell the client about it.

use spinegate_common::Reason;

/// Why a request is refused, with the text for `issue.diagnostics` of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{diagnostics}")]
pub struct Refusal {
    reason: Reason,
    diagnostics: String,
}

impl Refusal {
    /// The longest diagnostics text, in characters: a client's own header must not come back to it by the
    /// kilobyte.
    pub const MAX_DIAGNOSTICS: usize = 400;

    /// A refusal whose diagnostics may hold values that the client sent: control characters become U+FFFD,
    /// and the text is cut at [`Self::MAX_DIAGNOSTICS`].
    pub fn new(reason: Reason, diagnostics: impl AsRef<str>) -> Self {
        let mut text: String = diagnostics
            .as_ref()
            .chars()
            .take(Self::MAX_DIAGNOSTICS)
            .map(|c| {
                if c.is_control() {
                    char::REPLACEMENT_CHARACTER
                } else {
                    c
                }
            })
            .collect();
        if diagnostics.as_ref().chars().nth(Self::MAX_DIAGNOSTICS).is_some() {
            text.push('…');
        }
        Self {
            reason,
            diagnostics: text,
        }
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What the client is told.
    #[must_use]
    pub fn diagnostics(&self) -> &str {
        &self.diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;
    use spinegate_common::Reason;

    #[test]
    fn what_a_client_sent_comes_back_short_and_without_control_characters() {
        let refusal = Refusal::new(Reason::PathUnknown, format!("a\r\n\u{7f}{}", "x".repeat(10_000)));
        assert!(refusal.diagnostics().starts_with("a\u{fffd}\u{fffd}\u{fffd}x"));
        assert_eq!(
            refusal.diagnostics().chars().count(),
            Refusal::MAX_DIAGNOSTICS + 1
        );
    }
}
