//! What the end-to-end suites share: the people, their clients, and waiting with a bound.
//!
//! The suites speak the wire contract as plain JSON, on purpose without our own types: a field that we renamed by
//! mistake must fail here. They know one platform, by the kubeconfig in `OPENMCP_PLATFORM_KUBECONFIG`, and nothing
//! of how it was made. Those that need faults on the wire, or a look at single steps, run the engine inside the test.
pub mod etcd;
pub mod kinds;
pub mod kro;
pub mod namespace;
pub mod people;
pub mod record;
pub mod service;
pub mod snapshot;
pub mod wait;

pub use people::{Platform, Tenant};
pub use service::Service;

/// Plays scenes of a test side by side: functions that look at nothing of each other's. One that fails is named, and ends
/// the others.
#[macro_export]
macro_rules! scenes {
    ($($scene:ident)*) => {
        tokio::try_join!($(async {
            let since = std::time::Instant::now();
            anyhow::Context::context($scene().await, stringify!($scene))?;
            println!("{:4.1} s {}", since.elapsed().as_secs_f32(), stringify!($scene));
            anyhow::Ok(())
        }),*)?
    };
}
