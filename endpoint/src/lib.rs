//! A local endpoint.

pub mod broker;
pub mod pki;

mod counts;
pub use counts::Counts;

mod endpoint;
pub use endpoint::{Endpoint, EndpointBuilder, EndpointError};

mod front;
mod users;
