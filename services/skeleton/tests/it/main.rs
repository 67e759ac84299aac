//! The skeleton as its users and its attackers meet it: the program itself, with MCIAS beside it, over TLS.

mod api;
mod attacks;
mod browser;
mod login;
#[path = "../../../mcias/tests/it/running.rs"]
#[allow(dead_code, reason = "of MCIAS's tests, which need the rest")]
mod running;
mod tampered;
#[path = "../../../mcias/tests/it/web.rs"]
#[allow(dead_code, reason = "of MCIAS's tests, which need the rest")]
mod web;
mod world;
