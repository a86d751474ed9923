//! A bridge: what one broker has under a filter is published on another, with the channel API.
//!
//! The payload is not copied: it stays in the block that it was received into until it is encoded for the second broker.
//! Only when that one has it is it acknowledged to the first one, so nothing is lost whichever of the three is stopped.
//! When the second broker is slow or away, the bridge stops reading from the first one, which then holds its messages back.
//!
//! ```sh
//! cargo run -p fleetwire-engine --example bridge -- 127.0.0.1 1883 'plant/#' 127.0.0.1 1884
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use fleetwire_codec::{
    Carrier, DecodeError, Properties, PropertiesBuf, Property, QoS, ReasonCode, TopicFilterBuf,
};
use fleetwire_engine::{
    AckTicket, ConnectForm, DropReason, Engine, EngineHandle, LinkId, OwnedKind, OwnedPublish, Plan,
    PublishError, Way,
};

/// Events that wait for this thread.
const EVENTS_MAX: usize = 1024;
/// Messages that the second broker has not acknowledged.
const UNACKNOWLEDGED_MAX: usize = 50;

/// A message on its way, with what acknowledges it to the first broker; at QoS 0 nothing does.
struct Passing {
    publish: OwnedPublish,
    ticket: Option<AckTicket>,
}

struct Bridge {
    handle: EngineHandle,
    from: LinkId,
    to: LinkId,
    filter: TopicFilterBuf,
    to_takes: bool,
    /// What the second broker has not acknowledged, by token. Tokens count messages, so they keep the order.
    unacknowledged: BTreeMap<u64, Passing>,
    /// Messages that have to wait; while there are any the first broker is not read, so no more come than had been read.
    waiting: BTreeMap<u64, Passing>,
    token_next: u64,
    reading: bool,
}

impl Bridge {
    fn handle(&mut self, link: LinkId, kind: OwnedKind) -> Result<(), Box<dyn Error>> {
        match kind {
            OwnedKind::Connected { .. } | OwnedKind::Writable if link == self.to => self.to_takes = true,
            OwnedKind::Connected { .. } => {
                let filters = vec![(self.filter.clone(), QoS::AtLeastOnce)];
                self.handle.subscribe(self.from, filters)?;
            }
            OwnedKind::Message(message) => {
                let properties = forwarded(message.properties())?;
                let publish = OwnedPublish::new(message.topic, message.payload)
                    .qos(QoS::AtLeastOnce)
                    .retain(message.retain)
                    .properties(properties)
                    .token(self.token_next);
                self.token_next += 1;
                let ticket = message.ticket;
                self.waiting.insert(publish.token, Passing { publish, ticket });
            }
            OwnedKind::Acked(ack) => self.acknowledge(ack.token, ReasonCode::Success)?,
            OwnedKind::Refused(ack) => {
                eprintln!("the second broker refused a message: {}", ack.reason);
                self.acknowledge(ack.token, ack.reason)?;
            }
            OwnedKind::Dropped(dropped) => match dropped.why {
                DropReason::NotAccepted(
                    error @ (PublishError::TooLarge | PublishError::Refused | PublishError::Invalid),
                ) => {
                    eprintln!("the second broker does not take a message: {error}");
                    self.acknowledge(dropped.token, ReasonCode::ImplementationSpecificError)?;
                }
                // It may have it or not: once more.
                why => {
                    self.to_takes &= why != DropReason::NotAccepted(PublishError::Full);
                    let again = self.unacknowledged.remove(&dropped.token);
                    self.waiting.extend(again.map(|passing| (dropped.token, passing)));
                }
            },
            // Its connection is over, so the first broker sends that message again.
            OwnedKind::Rejected(rejected) => eprintln!("{}: {}", rejected.verb, rejected.error),
            OwnedKind::Failed(failure) => eprintln!("cannot connect: {}: {}", failure.slug, failure.text),
            OwnedKind::Disconnected(end) => {
                eprintln!("disconnected: {}: {}", end.slug, end.text);
                self.to_takes &= link != self.to;
            }
            _ => {}
        }
        Ok(())
    }

    /// The second broker is done with a message.
    fn acknowledge(&mut self, token: u64, reason: ReasonCode) -> Result<(), Box<dyn Error>> {
        let passed = self.unacknowledged.remove(&token);
        if let Some(ticket) = passed.and_then(|passing| passing.ticket) {
            self.handle.ack_with(ticket, reason)?;
        }
        Ok(())
    }

    /// Sends what the second broker takes, and reads from the first one as long as nothing has to wait.
    fn pass_on(&mut self) -> Result<(), Box<dyn Error>> {
        while self.to_takes && self.unacknowledged.len() < UNACKNOWLEDGED_MAX {
            let Some((token, passing)) = self.waiting.pop_first() else {
                break;
            };
            self.handle.publish(self.to, passing.publish.clone())?;
            self.unacknowledged.insert(token, passing);
        }
        let reading = self.waiting.is_empty();
        if reading != self.reading {
            self.handle.set_reading(self.from, reading)?;
            self.reading = reading;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from_host, from_port, filter, to_host, to_port] = arguments.as_slice() else {
        return Err("arguments: HOST PORT FILTER HOST PORT".into());
    };
    let (engine, events) = Engine::builder().start_channel_holding_acks(EVENTS_MAX)?;
    let handle = engine.handle();
    // A session that outlives its connection, so that the first broker sends again what was not acknowledged.
    let mut from = ConnectForm::new("bridge-from");
    from.clean_start = false;
    from.session_expiry = Duration::from_secs(3600);
    let mut bridge = Bridge {
        from: handle.open_with(&plan(from_host, from_port)?, 0, from)?,
        to: handle.open_with(&plan(to_host, to_port)?, 0, ConnectForm::new("bridge-to"))?,
        filter: TopicFilterBuf::new(filter.as_str())?,
        to_takes: false,
        unacknowledged: BTreeMap::new(),
        waiting: BTreeMap::new(),
        token_next: 0,
        reading: true,
        handle,
    };
    loop {
        if let Some(event) = events.next_timeout(Duration::from_secs(60)) {
            bridge.handle(event.at.link, event.kind)?;
            bridge.pass_on()?;
        }
    }
}

/// The properties of a message without those that belong to one connection alone.
fn forwarded(properties: Properties<'_>) -> Result<PropertiesBuf, DecodeError> {
    let mut forwarded = PropertiesBuf::new(Carrier::Publish);
    for property in properties {
        if !matches!(
            property,
            Property::TopicAlias(_) | Property::SubscriptionIdentifier(_)
        ) {
            forwarded.push(property)?;
        }
    }
    Ok(forwarded)
}

fn plan(host: &str, port: &str) -> Result<Plan, Box<dyn Error>> {
    let mut way = Way::tcp(host, port.parse()?);
    way.resolve()?;
    Ok(Plan::new(way))
}
