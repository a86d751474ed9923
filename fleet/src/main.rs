//! fleetwire
fn main() {}
