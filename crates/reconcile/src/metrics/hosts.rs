//! Requests by host. Hosts come and go with tenants: what was counted for one goes with the last connection to it.
use super::{PROCESS, lock};
use http::Method;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

pub(super) type Requests = Family<OfRequest, Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfRequest {
    code: String,
    method: String,
    host: String,
}

static HOSTS: LazyLock<Mutex<HashMap<String, Counted>>> = LazyLock::new(Mutex::default);

/// What was counted for a host.
#[derive(Default)]
struct Counted {
    connections: usize,
    requests: Vec<(OfRequest, Counter)>,
}

/// A connection to a host: its requests are counted while this lives.
pub(crate) struct Host(String);

impl Host {
    /// The host of a server's URL.
    pub(crate) fn of(server: &str) -> Self {
        let uri: Option<http::Uri> = server.parse().ok();
        let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
        lock(&HOSTS).entry(host.to_owned()).or_default().connections += 1;
        Self(host.to_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let mut hosts = lock(&HOSTS);
        let Some(counted) = hosts.get_mut(&self.0) else {
            return;
        };
        counted.connections -= 1;
        if counted.connections == 0 {
            for (labels, _) in hosts.remove(&self.0).unwrap_or_default().requests {
                PROCESS.families.requests.remove(&labels);
            }
        }
    }
}

pub(super) fn count(method: &Method, host: &str, code: &str) {
    let mut hosts = lock(&HOSTS);
    let Some(counted) = hosts.get_mut(host) else {
        return;
    };
    let known = counted
        .requests
        .iter()
        .find(|(of, _)| of.method == method.as_str() && of.code == code);
    if let Some((_, counter)) = known {
        counter.inc();
        return;
    }
    let labels = OfRequest {
        code: code.to_owned(),
        method: method.to_string(),
        host: host.to_owned(),
    };
    let counter = PROCESS.families.requests.get_or_create_owned(&labels);
    counter.inc();
    counted.requests.push((labels, counter));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_counted_for_a_host_goes_with_the_last_connection_to_it() {
        let told = || {
            let text = super::super::encode().unwrap();
            let of_host = text.lines().filter(|line| line.contains("tenant-a.test"));
            of_host.map(str::to_owned).collect::<Vec<_>>()
        };
        let [one, other] = [(); 2].map(|()| Host::of("https://tenant-a.test:6443/"));
        count(&Method::GET, "tenant-a.test", "200");
        count(&Method::GET, "tenant-a.test", "200");
        drop(one);
        let expected = "rest_client_requests_total{code=\"200\",method=\"GET\",host=\"tenant-a.test\"} 2";
        assert_eq!(told(), [expected]);
        drop(other);
        count(&Method::GET, "tenant-a.test", "200");
        assert_eq!(told(), Vec::<String>::new());
    }
}
