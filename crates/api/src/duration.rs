//! Durations as Go writes them, such as `1h30m`. Fields that hold one are strings: an object whose duration cannot be
//! parsed must stay readable, so that the mistake can be shown on it.
use std::time::Duration;

/// A text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no duration: write numbers with units (h, m, s, ms, us, ns), such as \"1h30m\", up to 292 years"
)]
pub struct InvalidDuration {
    /// The text.
    pub text: String,
}

/// The units, in nanoseconds; `ms` before `m`.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses what Go's `time.ParseDuration` does, but for negative durations: nothing here has a use for one.
///
/// ```
/// use std::time::Duration;
/// use openmcp_api::duration;
///
/// assert_eq!(duration::parse("1h30m"), Ok(Duration::from_secs(5400)));
/// assert!(duration::parse("a day").is_err());
/// ```
///
/// # Errors
/// [`InvalidDuration`] if the text is no duration, negative, or too long for Go.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let nanoseconds = match text.strip_prefix('+').unwrap_or(text) {
        "0" => Some(0),
        "" => None,
        parts => sum(parts).filter(|it| i64::try_from(*it).is_ok()),
    };
    nanoseconds
        .map(Duration::from_nanos)
        .ok_or_else(|| InvalidDuration {
            text: text.to_owned(),
        })
}

fn sum(mut rest: &str) -> Option<u64> {
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, behind) = rest.split_at(end);
        let (unit, nanoseconds) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        total = total.checked_add(multiply(number, *nanoseconds)?)?;
        rest = &behind[unit.len()..];
    }
    Some(total)
}

/// A decimal number times a unit, in whole nanoseconds.
fn multiply(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut digit_is_worth = unit;
    for digit in fraction.bytes() {
        // Digits that are worth less than a nanosecond do not count.
        digit_is_worth /= 10;
        total = total.checked_add(u64::from(digit - b'0') * digit_is_worth)?;
    }
    Some(total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_go_parses_is_parsed() {
        let cases = [
            ("0", 0),
            ("24h", 86_400_000_000_000),
            ("1h15m30.918s", 4_530_918_000_000),
            ("+5m", 300_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("10ms3us7ns", 10_003_007),
            ("2\u{b5}s", 2_000),
            ("0.9999999999s", 999_999_999),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_named() {
        for text in [
            "",
            "+",
            "-5m",
            "5",
            "m",
            ".m",
            "1..5s",
            "a day",
            "1d",
            "5 m",
            "1e3s",
            "3000000h",
            "99999999999999999999h",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in ".*", numbers in "[0-9.]{0,30}(h|m|s|ms|x)?") {
            let _ = (parse(&text), parse(&numbers));
        }
    }
}
