//! `openmcp demo`: the product's main job, told step by step on a local platform, with every step checked.
//!
//! Owns the story. Must not know how the platform is made ([`crate::dev`]) nor how any controller works: it is
//! told with kubectl, as the people who would type it.
mod repair;
mod stage;
mod story;
