//! Both roles of the engine against each other, and against peers by hand, over loopback TCP.

mod attempts;
mod blocking;
mod channel;
mod extras;
mod held_acks;
mod held_takeover;
mod local;
mod local_misuse;
mod owned;
mod server;
mod sessions;
mod shards;
mod stats;
mod subscribing;
mod support;
mod traffic;
mod wills;
