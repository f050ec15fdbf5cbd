//! Which loopback address a hosted API server gets. Pure: it is told which addresses are taken.
//!
//! The choice starts at a place derived from the Cluster's UID and probes upwards, so that the same Cluster asks
//! for the same address again after a crash, and two Clusters never share one.
use std::{collections::HashSet, net::Ipv4Addr, str::FromStr};

/// An IPv4 range in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    first: u32,
    size: u32,
}

/// Why a text is no usable range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RangeError {
    #[error("`{0}` is not an IPv4 range such as 127.100.128.0/17")]
    Syntax(String),
    #[error("`{0}` is not a loopback range (127.0.0.0/8): hosted API servers listen on loopback addresses")]
    NotLoopback(String),
    #[error("`{0}` has no room: the prefix must be between /8 and /30")]
    Size(String),
}

impl FromStr for Range {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let syntax = || RangeError::Syntax(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(syntax)?;
        let address: Ipv4Addr = address.parse().map_err(|_| syntax())?;
        let bits: u32 = bits.parse().map_err(|_| syntax())?;
        if !(8..=30).contains(&bits) {
            return Err(RangeError::Size(text.to_owned()));
        }
        if !address.is_loopback() {
            return Err(RangeError::NotLoopback(text.to_owned()));
        }
        let size = 1u32 << (32 - bits);
        Ok(Self {
            first: u32::from(address) & !(size - 1),
            size,
        })
    }
}

impl Range {
    /// A free address for the Cluster of this UID; `None` when all are taken. The range's first and last address
    /// are never given away.
    pub(crate) fn choose(self, uid: &str, taken: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let usable = self.size - 2;
        let start = u32::try_from(fnv1a(uid.as_bytes()) % u64::from(usable)).unwrap_or_default();
        (0..usable)
            .map(|step| Ipv4Addr::from(self.first + 1 + (start + step) % usable))
            .find(|address| !taken.contains(address))
    }
}

/// FNV-1a: stable across versions and platforms, which the standard library's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_cluster_asks_for_the_same_address() {
        let range: Range = "127.100.128.0/17".parse().unwrap();
        let one = range.choose("u-1", &HashSet::new()).unwrap();
        assert_eq!(range.choose("u-1", &HashSet::new()), Some(one));
        assert!((Ipv4Addr::new(127, 100, 128, 1)..=Ipv4Addr::new(127, 100, 255, 254)).contains(&one));
    }

    #[test]
    fn no_two_clusters_share_an_address_until_the_range_is_full() {
        let range: Range = "127.0.0.0/28".parse().unwrap();
        let mut taken = HashSet::new();
        for n in 0..14 {
            assert!(taken.insert(range.choose(&format!("uid-{n}"), &taken).unwrap()));
        }
        assert!(
            !taken.contains(&Ipv4Addr::new(127, 0, 0, 0)) && !taken.contains(&Ipv4Addr::new(127, 0, 0, 15))
        );
        assert_eq!(range.choose("one too many", &taken), None);
    }

    #[test]
    fn what_is_no_loopback_range_is_refused_by_name() {
        for bad in ["10.0.0.0/8", "127.0.0.0", "127.0.0.0/31", "x/8", "127.0.0.0/x"] {
            assert!(bad.parse::<Range>().unwrap_err().to_string().contains(bad));
        }
    }
}
