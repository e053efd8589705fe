//! The VMThunder node.
fn main() {}
