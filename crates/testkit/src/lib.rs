//! For authors of service providers: an in-memory API server, fault plans, and a simulator.
mod network;
pub mod oracle;
mod process;
mod server;
mod simulation;
mod time;
mod world;

pub use network::{Crash, Network, Trouble, WatchTrouble};
pub use process::{Ended, Job, Process, Start};
pub use server::{Denied, PERSON, Server};
pub use simulation::{Failure, Outcome, Scenario, Simulation, children};
pub use world::World;
