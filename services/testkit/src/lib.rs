//! Stub.
pub mod mmdb;
