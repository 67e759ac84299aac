//! Metacrypt as its users and its attackers meet it: the program itself, with MCIAS beside it, over TLS.

mod access;
mod actions;
mod memory;
mod operating;
mod pages;
mod pki;
mod policy;
mod redacted;
mod rekey;
mod rotation;
#[path = "../../../mcias/tests/it/running.rs"]
#[allow(dead_code, reason = "of MCIAS's tests, which need the rest")]
mod running;
mod seal;
mod ssh;
mod tool;
mod transit;
mod user;
#[path = "../../../mcias/tests/it/web.rs"]
#[allow(dead_code, reason = "of MCIAS's tests, which need the rest")]
mod web;
mod world;
