//! Hexadecimal digits in half the room: most of an Inventory is UIDs and digests, which no deflation makes smaller than
//! the bytes that they stand for.
//!
//! Pure. Text is UTF-8, in which the two bytes that mark what was packed never occur.

/// Before the sixteen bytes of a UUID.
const UUID: u8 = 0xfe;
/// Before a number of bytes, and these.
const DIGITS: u8 = 0xff;
/// Fewer digits are not worth their mark.
const FEW: usize = 8;
/// The lengths of a UUID's groups.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
const UUID_TEXT: usize = 36;

/// Appends `text` to `packed`.
pub(super) fn pack(mut text: &[u8], packed: &mut Vec<u8>) {
    while let Some(first) = text.first() {
        if let Some(uuid) = uuid(text) {
            packed.push(UUID);
            packed.extend(uuid);
            text = &text[UUID_TEXT..];
            continue;
        }
        let run = text.iter().take_while(|byte| digit(**byte).is_some()).count();
        let pairs = (run / 2).min(usize::from(u8::MAX));
        if let (true, Ok(count)) = (run >= FEW, u8::try_from(pairs)) {
            packed.extend([DIGITS, count]);
            packed.extend(bytes(&text[..2 * pairs]));
            text = &text[2 * pairs..];
        } else if run == 0 {
            packed.push(*first);
            text = &text[1..];
        } else {
            packed.extend(&text[..run]);
            text = &text[run..];
        }
    }
}

/// Appends what was packed to `text`. `None`: it was cut off.
pub(super) fn unpack(mut packed: &[u8], text: &mut Vec<u8>) -> Option<()> {
    while let Some((first, rest)) = packed.split_first() {
        packed = match *first {
            UUID => {
                let (mut bytes, rest) = rest.split_at_checked(16)?;
                for (nth, length) in GROUPS.into_iter().enumerate() {
                    if nth > 0 {
                        text.push(b'-');
                    }
                    let (group, after) = bytes.split_at(length / 2);
                    write(group, text);
                    bytes = after;
                }
                rest
            }
            DIGITS => {
                let (count, rest) = rest.split_first()?;
                let (bytes, rest) = rest.split_at_checked(usize::from(*count))?;
                write(bytes, text);
                rest
            }
            byte => {
                text.push(byte);
                rest
            }
        };
    }
    Some(())
}

/// The bytes of the UUID that `text` begins with.
fn uuid(text: &[u8]) -> Option<impl Iterator<Item = u8> + '_> {
    let text = text.get(..UUID_TEXT)?;
    let dash = |at: &usize| [8, 13, 18, 23].contains(at);
    let fits = |(at, byte): (usize, &u8)| match dash(&at) {
        true => *byte == b'-',
        false => digit(*byte).is_some(),
    };
    let groups = move || text.split(|byte| *byte == b'-');
    (text.iter().enumerate().all(fits)).then(|| groups().flat_map(bytes))
}

/// What an even number of digits stands for.
fn bytes(digits: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let value = |byte: &u8| digit(*byte).unwrap_or_default();
    digits
        .chunks_exact(2)
        .map(move |pair| pair.iter().fold(0, |byte, next| byte << 4 | value(next)))
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

fn write(bytes: &[u8], text: &mut Vec<u8>) {
    const DIGIT: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        text.extend([byte >> 4, byte & 15].map(|half| DIGIT[usize::from(half)]));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        pack(text.as_bytes(), &mut packed);
        packed
    }

    fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        unpack(packed, &mut text).map(|()| text)
    }

    #[test]
    fn a_uuid_takes_17_bytes_and_a_digest_two_more_than_it_stands_for() {
        assert_eq!(packed("6a2bd2c5-3b8e-4a54-a1d8-60b2b7a7e0c1").len(), 17);
        assert_eq!(packed("x1:00112233445566778899aabbccddeeff").len(), 3 + 2 + 16);
        assert_eq!(packed("face").len(), 4);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let packed = packed("6a2bd2c5-3b8e-4a54-a1d8-60b2b7a7e0c1");
        assert_eq!(unpacked(&packed[..9]), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            text in "([0-9a-f]{0,40}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-Fa-f-]{0,40}|\\PC{0,9}){0,6}",
        ) {
            prop_assert_eq!(unpacked(&packed(&text)).unwrap(), text.as_bytes());
        }

        #[test]
        fn a_run_of_any_length_is_unpacked(length in 0usize..2000) {
            let text = "f".repeat(length);
            prop_assert_eq!(unpacked(&packed(&text)).unwrap(), text.as_bytes());
        }
    }
}
