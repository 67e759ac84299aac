#![doc = "xtask"]
fn main() {}
