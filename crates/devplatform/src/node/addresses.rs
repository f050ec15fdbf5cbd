//! One loopback address a pod, out of the node's range. Knows nothing of pods.
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

/// The node's address range.
pub(super) struct Addresses {
    first: u32,
    count: u32,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    used: BTreeSet<u32>,
    next: u32,
}

/// An address in use; it is free again when this is dropped.
pub(super) struct AddressLease {
    pub(super) address: Ipv4Addr,
    offset: u32,
    state: Arc<Mutex<State>>,
}

impl Drop for AddressLease {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used.remove(&self.offset);
    }
}

impl Addresses {
    /// Reads `127.X.16.0/20`. The first and the last address stay unused, as in any subnet.
    pub(super) fn parse(cidr: &str) -> anyhow::Result<Self> {
        let parsed = cidr.split_once('/').and_then(|(base, bits)| {
            let base: Ipv4Addr = base.parse().ok()?;
            let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits))?;
            Some((u32::from(base), 1u32 << (32 - bits)))
        });
        let Some((base, size)) = parsed else {
            anyhow::bail!("podCidr {cidr:?} is not an IPv4 range like 127.101.16.0/20");
        };
        Ok(Self {
            first: (base & !(size - 1)) + 1,
            count: size - 2,
            state: Arc::default(),
        })
    }

    /// The wanted address if it is ours and free, else the next free one (freed addresses are used last, so that
    /// nobody talks to a pod's successor by mistake). `None` when the range is exhausted.
    pub(super) fn lease(&self, wanted: Option<Ipv4Addr>) -> Option<AddressLease> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = wanted
            .and_then(|address| u32::from(address).checked_sub(self.first))
            .filter(|offset| *offset < self.count && !state.used.contains(offset));
        let offset = wanted.or_else(|| {
            (0..self.count)
                .map(|step| (state.next + step) % self.count)
                .find(|offset| !state.used.contains(offset))
        })?;
        if wanted.is_none() {
            state.next = (offset + 1) % self.count;
        }
        state.used.insert(offset);
        Some(AddressLease {
            address: Ipv4Addr::from(self.first + offset),
            offset,
            state: self.state.clone(),
        })
    }

    /// How many pods fit.
    pub(super) fn capacity(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_unique_and_come_back_last() {
        let addresses = Addresses::parse("127.9.16.0/30").unwrap();
        let first = addresses.lease(None).unwrap();
        let second = addresses.lease(None).unwrap();
        assert_eq!(first.address, Ipv4Addr::new(127, 9, 16, 1));
        assert_eq!(second.address, Ipv4Addr::new(127, 9, 16, 2));
        assert!(addresses.lease(None).is_none());
        drop(first);
        assert_eq!(
            addresses.lease(None).unwrap().address,
            Ipv4Addr::new(127, 9, 16, 1)
        );
    }

    #[test]
    fn a_pod_that_is_taken_over_keeps_its_address_if_it_is_free_and_ours() {
        let addresses = Addresses::parse("127.9.16.0/20").unwrap();
        let wanted = Ipv4Addr::new(127, 9, 18, 4);
        let kept = addresses.lease(Some(wanted)).unwrap();
        assert_eq!(kept.address, wanted);
        assert_ne!(addresses.lease(Some(wanted)).unwrap().address, wanted);
        let foreign = addresses.lease(Some(Ipv4Addr::new(10, 0, 0, 1))).unwrap();
        assert!(foreign.address.is_loopback());
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        assert!(Addresses::parse("127.9.16.0").is_err());
        assert!(Addresses::parse("x/20").is_err());
    }
}
