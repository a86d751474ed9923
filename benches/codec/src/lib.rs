//! The cases and the contenders of the codec benches: the same bytes for all, in the same run.

mod cases;
pub use cases::{Case, cases};

mod contenders;
pub use contenders::{CONTENDERS, Contender, Pass};

#[path = "../../samples.rs"]
pub mod samples;
