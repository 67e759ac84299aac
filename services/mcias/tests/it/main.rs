//! MCIAS as its users and its attackers meet it: over gRPC and REST, with TLS, in this process or as one of its own.

mod access;
mod accounts;
mod browser;
mod clock;
mod crash;
mod factors;
mod guessing;
mod login;
mod mciasctl;
mod offline;
mod oidc;
mod oidc_attacks;
mod oidc_client;
mod oidc_logout;
mod oidc_tokens;
mod openid_client;
mod pages;
mod passkeys;
mod running;
mod tokens;
mod web;
