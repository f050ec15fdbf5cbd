//! The engine against a real API server: what only it can answer (who owns what, which UID, which code). Needs a
//! platform; each test has a namespace of its own.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apply;
mod connection;
mod lease;
mod place;
mod remove;
mod report;
