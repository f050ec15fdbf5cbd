//! Short hashes, UUIDs made of names, and shortening.
use sha3::{
    Shake128,
    digest::{ExtendableOutput, Update, XofReader},
};

/// Characters that a shortened name spends on `--` and the hash.
const HASH_SUFFIX_LENGTH: usize = 10;

/// A name cannot be shortened to so few characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot shorten to {max} characters: the hash alone takes {HASH_SUFFIX_LENGTH}")]
pub struct MaxTooSmall {
    /// The length that was asked for.
    pub max: usize,
}

/// A hash of eight lower-case characters over the parts, joined with `/`.
///
/// ```
/// assert_eq!(openmcp_api::names::name_hash(&["default", "my-cp"]), "c5xb3txp");
/// ```
pub fn name_hash(parts: &[&str]) -> String {
    data_encoding::BASE32_NOPAD
        .encode(&shake128::<5>(parts))
        .to_ascii_lowercase()
}

/// A UUID of version 8 over the parts, joined with `/`.
pub fn name_uuid(parts: &[&str]) -> String {
    let mut it = shake128::<16>(parts);
    it[6] = (it[6] & 0x0f) | 0x80;
    it[8] = (it[8] & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&it);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// `text` if it fits into `max` bytes; else its beginning, `--` and its hash, together at most `max` bytes.
///
/// A legal DNS label or subdomain stays one. Different texts have different results, but for collisions of a 40-bit hash
/// between texts with the same beginning.
///
/// # Errors
/// [`MaxTooSmall`] if `text` does not fit and `max` leaves no room beside the hash.
pub fn shorten(text: &str, max: usize) -> Result<String, MaxTooSmall> {
    if text.len() > max && max <= HASH_SUFFIX_LENGTH {
        return Err(MaxTooSmall { max });
    }
    Ok(shortened(text, max))
}

/// [`shorten`] for callers whose `max` is known to be big enough.
pub(super) fn shortened(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(HASH_SUFFIX_LENGTH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!(
        "{}--{}",
        text[..end].trim_end_matches(['-', '.']),
        name_hash(&[text])
    )
}

fn shake128<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut hasher = Shake128::default();
    hasher.update(parts.join("/").as_bytes());
    let mut out = [0; N];
    hasher.finalize_xof().read(&mut out);
    out
}
