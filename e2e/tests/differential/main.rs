//! The in-memory API server of the testkit against the real one: the same requests, the same answers.
//!
//! Answers are compared whole, with UIDs, resourceVersions and times replaced, and the watch events that follow.
//! Needs a platform; each test has a namespace of its own there.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pair;
mod random;
mod reads;
mod step;
mod writes;
