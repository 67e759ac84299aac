//! The web foundation as a service has it: a small site, asked through its router with real cookies, and seen in Chromium.

mod attacks;
mod browser;
mod client;
mod pages;
mod site;
