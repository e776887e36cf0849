//! Spinegate.
fn main() {}
