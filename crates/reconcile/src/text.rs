//! Texts for people, kept short: a tenant may write a megabyte into a field, and what it is told must not repeat it.
use std::borrow::Cow;

/// The longest message of a fault or a condition. More is not read, and is written again at each change.
pub(crate) const MESSAGE_MAX: usize = 2_048;
/// Stands for what is left out.
const GAP: &str = " [...] ";

/// At most `bytes` of a text, cut between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// At most `bytes` of a text: of a longer one the beginning and the end, which says what to do.
pub(crate) fn brief(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let room = bytes.saturating_sub(GAP.len());
    let head = cut(text, room - room / 3);
    let from = (text.len() - room / 3..text.len()).find(|at| text.is_char_boundary(*at));
    let tail = &text[from.unwrap_or(text.len())..];
    Cow::Owned(format!("{head}{GAP}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }

    #[test]
    fn of_a_long_text_beginning_and_end_stay() {
        let long = format!("spec.version: {} is not offered", "é".repeat(1_000_000));
        let brief_text = brief(&long, 101);
        assert!(brief_text.len() <= 101, "{}", brief_text.len());
        assert!(brief_text.starts_with("spec.version: é") && brief_text.ends_with("é is not offered"));
        assert_eq!(brief("short", 5), "short");
    }
}
