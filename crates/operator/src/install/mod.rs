//! The provider installer: ServiceProvider, ClusterProvider and PlatformService differ in what they do, not in how they
//! are installed (contract §3, §11.6).
//!
//! `desired` builds the objects from the spec, `state` reads how far they are, both purely; `effects` brings one to the
//! other; `uninstall` takes all of it away again, also what `remains` of an init that was stopped in its middle;
//! `reconcile` drives them and reports. It knows nothing of what a provider does, beyond the kinds that it registered.
mod desired;
mod effects;
mod reconcile;
mod remains;
#[cfg(test)]
mod rights;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod uninstall;
#[cfg(test)]
mod uninstalled;

pub(crate) use reconcile::Install;

/// Field manager, event reporter and metric label.
pub(crate) const NAME: &str = "openmcp-installer";
