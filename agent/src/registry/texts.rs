//! Many short texts in one.

use std::num::NonZeroU32;

/// Texts one after the other, found by where they are.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    text: String,
    ends: Vec<usize>,
}

/// Where a text is among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextAt(NonZeroU32);

impl Texts {
    /// Takes one more.
    pub fn push(&mut self, text: &str) -> TextAt {
        self.text.push_str(text);
        self.ends.push(self.text.len());
        // So many texts as a position can't tell don't fit into memory; of such a position there is none.
        let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        TextAt(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    /// The text that is there.
    #[must_use]
    pub fn get(&self, at: TextAt) -> Option<&str> {
        let number = at.0.get() as usize;
        let end = *self.ends.get(number - 1)?;
        let begin = match number.checked_sub(2) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(begin..end)
    }

    /// The same in no more memory than it takes.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_where_it_was_put() {
        let mut texts = Texts::default();
        let all = ["a", "", "bcd", "a"];
        let at: Vec<TextAt> = all.iter().map(|text| texts.push(text)).collect();
        let texts = texts.finish();
        let found: Vec<_> = at.iter().map(|at| texts.get(*at).unwrap()).collect();
        assert_eq!(found, all);
        assert_eq!(texts.get(TextAt(NonZeroU32::MAX)), None);
    }
}
