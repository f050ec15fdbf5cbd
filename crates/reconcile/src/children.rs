//! Filled by the runtime's half of the engine.
