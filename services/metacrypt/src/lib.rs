//! Metacrypt: certificates and secrets behind a seal.

pub mod barrier;
