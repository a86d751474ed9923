//! Holds thousands of MQTT connections on few threads, in client and server role.
//!
//! One shard is one thread with one event loop, its own buffers, timers and connections, and one [`Handler`]: the
//! application's code, called with borrowed events and an [`Outbox`] of verbs. Received bytes are decrypted, parsed
//! and lent to the handler where the kernel wrote them; what is published is encoded once into the buffer that goes
//! to the kernel. For applications that would rather have channels there is [`EngineBuilder::start_channel`], for those
//! with an event loop of their own an engine without threads, [`EngineBuilder::start_local`].
//!
//! ```no_run
//! use std::time::Duration;
//! use fleetwire_codec::{QoS, TopicName};
//! use fleetwire_engine::{At, Dial, DialError, Engine, Event, Handler, Outbox, Plan, Publish, Shard, Way};
//!
//! struct Thermometers { plan: Plan }
//!
//! impl Handler for Thermometers {
//!     fn on_start(&mut self, shard: Shard, out: &mut Outbox<'_>) {
//!         for index in shard.share_of(1000) {
//!             out.open(&self.plan, index as u64).expect("1,000 links are within the limits");
//!         }
//!     }
//!     fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
//!         dial.client_id(&format!("thermometer-{}", at.token));
//!         Ok(())
//!     }
//!     fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
//!         match event {
//!             Event::Connected(_) => out.every(at.link, at.now, Duration::from_secs(1)).unwrap_or(()),
//!             Event::Due(due) => {
//!                 let topic = TopicName::new("thermometers/all").expect("it has no wildcards");
//!                 let publish = Publish::new(topic, b"21.5").qos(QoS::AtLeastOnce).intended(due.intended);
//!                 let _full_or_offline = out.publish(at.link, publish);
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//!
//! let mut way = Way::tcp("localhost", 1883);
//! way.resolve()?;
//! let plan = Plan::new(way);
//! let engine = Engine::builder().connect_rate(500.0).start(|_| Thermometers { plan: plan.clone() })?;
//! std::thread::sleep(Duration::from_secs(60));
//! engine.shutdown(Duration::from_secs(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: it raises no limits of the process, installs no signal handler, no logger and no TLS
//! provider. Sessions outlive their connection, and are resumed with what is in flight, while the link or the
//! application holds their [state](SessionState); nothing is kept beyond the process.
#![forbid(unsafe_code)]

mod id;
pub use id::{AckTicket, At, LinkId, Shard};

mod limits;
pub use limits::Limits;

mod plan;
pub use plan::{Backoff, Plan, ResolveError, Way};

mod dial;
pub use dial::{ConnectForm, Dial, DialError, WillForm};

mod handler;
pub use handler::Handler;

mod event;
pub use event::{Accepted, Ack, AcksLate, Connected, DropReason, Dropped, Due, Event, Message, Rejected};

mod failure;
pub use failure::{Disconnected, Failure, Slug, Stage};

mod tls_info;
pub use tls_info::TlsInfo;

mod publish;
pub use publish::{OwnedPublish, Publish};

mod outbox;
pub use outbox::Outbox;

mod error;
pub use error::{OpenError, PublishError, VerbError};

mod listener;
pub use listener::Listener;

mod session;
pub use session::SessionState;

mod stats;
pub use stats::Stats;

mod builder;
pub use builder::{EngineBuilder, StartError};

mod engine;
pub use engine::{Engine, Shutdown};

mod local;
pub use local::{LocalEngine, Turn};

mod handle;
pub use handle::{EngineHandle, HandleError, Returned};

mod channel;
pub use channel::{ChannelHandler, Events, OwnedEvent, OwnedKind, OwnedMessage};

pub mod sim;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

mod clock;
mod command;
mod connection;
mod core;
mod driver;
mod link;
mod links;
mod parking;
mod pinning;
mod schedule;
mod shard;
mod timer;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
