//! Loopback blocks: each platform owns 127.X.0.0/16, so that two platforms never share an address.
use anyhow::bail;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// Blocks begin at 127.100: the low ones are other programs' favourites.
const FIRST: u8 = 100;
/// 127.254 is the last block.
const LAST: u8 = 254;

pub(crate) const API_SERVER_PORT: u16 = 6443;
pub(crate) const ETCD_PORT: u16 = 2379;
pub(crate) const ETCD_PEER_PORT: u16 = 2380;
pub(crate) const CONTROLLER_MANAGER_PORT: u16 = 10257;
pub(crate) const SCHEDULER_PORT: u16 = 10259;
pub(crate) const KUBELET_PORT: u16 = 10250;

/// The addresses of one platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(u8);

impl Block {
    /// The block of a platform's number; numbers beyond 127.254 do not exist.
    pub(crate) fn new(number: u8) -> anyhow::Result<Self> {
        match number.checked_add(FIRST) {
            Some(octet) if octet <= LAST => Ok(Self(number)),
            _ => bail!("{number} is no platform number: 0 to {} are", LAST - FIRST),
        }
    }

    /// The first block that no platform in `taken` has and on which nobody listens (another user's platform).
    pub(crate) fn first_free(taken: &[u8]) -> anyhow::Result<Self> {
        for number in 0..=LAST - FIRST {
            let block = Self(number);
            if !taken.contains(&number) && block.core().iter().all(|address| is_free(*address)) {
                return Ok(block);
            }
        }
        bail!(
            "all {} loopback blocks are in use: end a platform with `openmcp dev down`",
            LAST - FIRST + 1
        )
    }

    /// The number that is recorded.
    pub(crate) fn number(self) -> u8 {
        self.0
    }

    fn at(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, FIRST + self.0, third, fourth)
    }

    /// Control plane and node: 127.X.0.1.
    pub(crate) fn host(self) -> Ipv4Addr {
        self.at(0, 1)
    }

    /// The etcd of hosted control planes: 127.X.0.2.
    pub(crate) fn hosted_etcd(self) -> Ipv4Addr {
        self.at(0, 2)
    }

    /// One address a pod.
    pub(crate) fn pods(self) -> String {
        format!("{}/20", self.at(16, 0))
    }

    /// One address a hosted cluster.
    pub(crate) fn hosted_clusters(self) -> String {
        format!("{}/17", self.at(128, 0))
    }

    /// The API server as clients name it.
    pub(crate) fn api_server_url(self) -> String {
        format!("https://{}:{API_SERVER_PORT}", self.host())
    }

    fn core(self) -> [SocketAddrV4; 3] {
        [
            SocketAddrV4::new(self.host(), API_SERVER_PORT),
            SocketAddrV4::new(self.host(), ETCD_PORT),
            SocketAddrV4::new(self.hosted_etcd(), ETCD_PORT),
        ]
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/16", self.at(0, 0))
    }
}

/// True when a server could listen there now.
pub(crate) fn is_free(address: SocketAddrV4) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn addresses_of_a_block() {
        let block = Block::new(3).unwrap();
        assert_eq!(block.to_string(), "127.103.0.0/16");
        assert_eq!(block.api_server_url(), "https://127.103.0.1:6443");
        assert_eq!(block.hosted_etcd().to_string(), "127.103.0.2");
        assert_eq!(block.pods(), "127.103.16.0/20");
        assert_eq!(block.hosted_clusters(), "127.103.128.0/17");
        assert!(Block::new(155).is_err());
    }

    #[test]
    fn a_block_that_is_taken_or_listened_on_is_passed_over() {
        let free = Block::first_free(&[]).unwrap();
        let second = Block::first_free(&[free.number()]).unwrap();
        assert_ne!(free, second);
        let _listener = TcpListener::bind(SocketAddrV4::new(second.host(), API_SERVER_PORT)).unwrap();
        let third = Block::first_free(&[free.number()]).unwrap();
        assert!(third != free && third != second);
    }
}
