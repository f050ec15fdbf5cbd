//! For authors of service providers: an in-memory API server, fault plans, and a simulator.
mod server;

pub use server::Server;
