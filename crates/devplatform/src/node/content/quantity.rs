//! Quantities, as far as the downward API needs them: a limit divided by a divisor, rounded up.

/// Reads a quantity (`100m`, `1.5`, `128Mi`, `2e3`) in thousandths. `None` if it is none.
fn milli(text: &str) -> Option<i128> {
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    let thousandths: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = match suffix {
        "n" => thousandths / 1_000_000_000,
        "u" => thousandths / 1_000_000,
        "m" => thousandths / 1_000,
        "" => thousandths,
        "k" => thousandths * 1_000,
        "M" => thousandths * 1_000_000,
        "G" => thousandths * 1_000_000_000,
        "T" => thousandths * 1_000_000_000_000,
        "P" => thousandths * 1_000_000_000_000_000,
        "E" => thousandths * 1_000_000_000_000_000_000,
        "Ki" => thousandths << 10,
        "Mi" => thousandths << 20,
        "Gi" => thousandths << 30,
        "Ti" => thousandths << 40,
        "Pi" => thousandths << 50,
        "Ei" => thousandths << 60,
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            thousandths.checked_mul(10i128.checked_pow(power)?)?
        }
    };
    Some(scaled)
}

/// `value / divisor`, rounded up; the divisor "0" and "" mean 1.
pub(super) fn divide(value: &str, divisor: Option<&str>) -> Option<i128> {
    let divisor = match divisor {
        None | Some("" | "0") => 1_000,
        Some(text) => milli(text)?,
    };
    if divisor <= 0 {
        return None;
    }
    Some((milli(value)? + divisor - 1).div_euclid(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_divided_and_rounded_up() {
        assert_eq!(divide("1500m", None), Some(2));
        assert_eq!(divide("1500m", Some("1m")), Some(1500));
        assert_eq!(divide("128Mi", Some("1Mi")), Some(128));
        assert_eq!(divide("1G", None), Some(1_000_000_000));
        assert_eq!(divide("1.5", Some("0")), Some(2));
        assert_eq!(divide("2e3", None), Some(2000));
        assert_eq!(divide("lots", None), None);
    }
}
