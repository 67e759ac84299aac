//! MCIAS: identity and access, the platform's root of trust.

pub mod breached;
pub mod guesses;
pub mod name;
pub mod password;
pub mod seal;
pub mod totp;
