//! The server with real clients: who may call what, REST as gRPC has it, the certificate, the proxy's word.

#[path = "server/notes.rs"]
mod notes;

#[path = "server/access.rs"]
mod access;
#[path = "server/bodies.rs"]
mod bodies;
#[path = "server/connection.rs"]
mod connection;
#[path = "server/operations.rs"]
mod operations;
#[path = "server/probe.rs"]
mod probe;
#[path = "server/rest.rs"]
mod rest;
