//! Children against a real API server: whose an object is, what is drift, what is removed. Needs a platform; each
//! test has a namespace and a field manager of its own.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod drift;
mod ownership;
mod removal;
mod rig;
