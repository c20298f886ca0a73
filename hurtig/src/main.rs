//! The `hurtig` binary.

fn main() {}
