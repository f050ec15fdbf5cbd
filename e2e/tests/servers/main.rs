//! The runtime and real API servers of each scene's own, which are what no platform could afford: full, guarded by a
//! webhook that denies or hangs, with another schema under live objects, and counting each request while releases
//! follow one another (faults 15, 17 and 18). Needs no platform, only its programs.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod gate;
mod misuse;
mod notes;
mod schema;
mod site;
mod solo;
mod storage;
mod upgrade;
mod webhook;
