//! The endpoint over real sockets: against our own engine as its devices, against rustls on its own, and against bytes
//! made by hand.

mod doors;
mod hostile;
mod messages;
mod refusals;
mod sessions;
mod support;
