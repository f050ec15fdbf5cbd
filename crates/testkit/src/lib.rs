//! For authors of service providers: an in-memory API server, fault plans, and a simulator.
//!
//! A provider in the simulator: a platform in memory, an operator that grants what is asked for, and a process of the
//! provider in paused time. [`Simulation::crash_everywhere`] ends the process before and after every write that it
//! sends, starts another one, and judges the end by the invariants of [`oracle`]. It takes seconds, needs no cluster,
//! and prints how to see a failure again.
//!
//! ```no_run
//! use openmcp_testkit::{Scenario, Simulation};
//! use serde_json::Value;
//! use service_provider_runtime::ServiceProvider;
//!
//! // `config` is a ProviderConfig, `order` a service object in namespace `team` with the name `one`.
//! fn survives<P: ServiceProvider>(make: fn() -> P, config: Value, order: Value) {
//!     let simulation = Simulation::new("my-provider", make).on_platform(config).control_plane("team", "one");
//!     let life = Scenario::new("life")
//!         .apply("onboarding", order.clone())
//!         .drift()
//!         .delete("onboarding", &order);
//!     if let Err(failure) = simulation.crash_everywhere(&life) {
//!         panic!("{failure}");
//!     }
//! }
//! ```
//!
//! For other faults drive a [`Process`] by hand: [`Process::network`] loses answers, stalls watches and stops servers;
//! [`World::server`] is what tenants and platform owners use.
//!
//! | room | what |
//! |---|---|
//! | [`Server`] | one API server; its module says what it does, refuses and leaves out |
//! | [`Network`] | the way from one process to the servers, with every fault |
//! | [`World`] | the servers of a platform, its operator, its time |
//! | [`Process`] | one process: dropping it is `kill -9`, not driving it is SIGSTOP |
//! | [`Simulation`], [`Scenario`] | what authors start with |
//! | [`oracle`] | what must hold |
//!
//! A seed fixes jitter and latency, and leads to the same requests each time: a failure is seen again by its seed. The
//! requests that led to it are printed with it.
#![warn(missing_docs)]

mod network;
pub mod oracle;
mod process;
mod record;
mod server;
mod simulation;
mod time;
mod world;

pub use network::{Crash, Network, Trouble, WatchTrouble};
pub use process::{Ended, Job, Process, Start};
pub use server::{Denied, PERSON, Server};
pub use simulation::{Failure, Outcome, Scenario, Simulation, children};
pub use world::World;
