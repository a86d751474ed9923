//! Client against server in memory, and both against rustls as a foreign peer.

mod clients;
mod domains;
mod foreign;
mod handshake;
mod hostile;
mod identity;
mod records;
mod refusals;
mod resumption;
mod settings;
mod support;
mod traps;
