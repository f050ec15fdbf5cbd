//! Children: the objects that a controller makes on clusters which it does not own.
//!
//! This room owns what is known of live children (a digest each, no bodies), the shared watches that keep that
//! knowledge, the plan that compares it with what is wanted, and the execution of the plan: intents first, wave
//! by wave, pruned by UID, removed by the inventory alone. It knows Kubernetes objects and field managers; it
//! must not know whose children they are or what they are for.
mod abandoned;
mod cluster;
mod converge;
mod counters;
mod damper;
mod defined;
mod drift;
mod exact;
#[cfg(test)]
mod fuzz;
mod kinds;
mod kstatus;
mod observe;
mod plan;
mod preview;
mod prune;
mod remove;
mod report;
mod seen;
mod step;
mod told;
pub(crate) mod wanted;
mod watch;

pub use cluster::Cluster;
pub use converge::{Convergence, Engine, Maker};
pub use defined::{Others, Ours};
pub use drift::Drift;
pub use kinds::Kind;
pub use kstatus::Health;
pub use observe::{Address, Child, RENEW_ANNOTATION};
pub use preview::Preview;
pub use remove::{Removal, TearDown};
pub use report::{Failure, Report};
pub use seen::Seen;
pub use wanted::{Adoption, Mode, Recipe, Wanted, Wave};
pub use watch::{Children, Lease, Scope, Unfollowed};
