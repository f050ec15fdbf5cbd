//! The admin server: `/livez`, `/readyz` with named reasons, `/metrics` as OpenMetrics.
use std::{net::SocketAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What is not ready yet, by name. /readyz is 200 only when nothing is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness(Arc<()>);

impl Readiness {
    /// Names something that must happen before the process is ready ("onboarding cluster access").
    pub fn wait_for(&self, _what: &'static str) {
        unimplemented!()
    }
    /// It happened.
    pub fn done(&self, _what: &'static str) {
        unimplemented!()
    }
}

/// Serves until `shutdown`. An address that cannot be bound is an error that names it.
pub async fn serve(
    _bind: SocketAddr,
    _readiness: Readiness,
    _shutdown: CancellationToken,
) -> std::io::Result<()> {
    unimplemented!()
}

/// Parses Go's `:8080` form: an empty host part binds `$POD_IP`, else all loopback (contract §3).
pub fn parse_bind(_text: &str, _pod_ip: Option<&str>) -> Result<SocketAddr, String> {
    unimplemented!()
}
