//! A bridge: what one broker has under a filter is published on another, with the channel API.
//!
//! The payload is not copied: it stays in the block that it was received into until it is encoded for the second broker.
//! When that one is slow or away, the bridge stops reading from the first one, which then holds its messages back.
//!
//! ```sh
//! cargo run -p fleetwire-engine --example bridge -- 127.0.0.1 1883 'plant/#' 127.0.0.1 1884
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use fleetwire_codec::{QoS, TopicFilterBuf, TopicNameBuf};
use fleetwire_engine::{ConnectForm, Engine, EngineHandle, LinkId, OwnedKind, OwnedPublish, Plan, Way};

/// Events that wait for this thread.
const EVENTS_MAX: usize = 1024;
/// Messages that the second broker has not acknowledged.
const UNACKNOWLEDGED_MAX: usize = 50;

struct Bridge {
    handle: EngineHandle,
    from: LinkId,
    to: LinkId,
    filter: TopicFilterBuf,
    to_is_up: bool,
    unacknowledged: usize,
    /// Messages that have to wait; while there are any the first broker is not read, so no more come than had been read.
    waiting: VecDeque<OwnedPublish>,
    reading: bool,
}

impl Bridge {
    fn handle(&mut self, link: LinkId, kind: OwnedKind) -> Result<(), Box<dyn Error>> {
        match kind {
            OwnedKind::Connected { .. } if link == self.to => self.to_is_up = true,
            OwnedKind::Connected { .. } => {
                let filters = vec![(self.filter.clone(), QoS::AtLeastOnce)];
                self.handle.subscribe(self.from, filters)?;
            }
            OwnedKind::Message(message) => {
                let mut publish = OwnedPublish::new(TopicNameBuf::new(message.topic)?, message.payload);
                publish.qos = QoS::AtLeastOnce;
                publish.retain = message.retain;
                self.waiting.push_back(publish);
            }
            OwnedKind::Acked(_) => self.unacknowledged -= 1,
            OwnedKind::Refused(ack) => {
                eprintln!("the second broker refused a message: {}", ack.reason);
                self.unacknowledged -= 1;
            }
            OwnedKind::Dropped(dropped) => {
                eprintln!("a message is lost: {:?}", dropped.why);
                self.unacknowledged -= 1;
            }
            OwnedKind::Failed(failure) => eprintln!("cannot connect: {}: {}", failure.slug, failure.text),
            OwnedKind::Disconnected(end) => {
                eprintln!("disconnected: {}: {}", end.slug, end.text);
                self.to_is_up &= link != self.to;
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends what the second broker takes, and reads from the first one as long as nothing has to wait.
    fn pass_on(&mut self) -> Result<(), Box<dyn Error>> {
        while self.to_is_up && self.unacknowledged < UNACKNOWLEDGED_MAX {
            let Some(publish) = self.waiting.pop_front() else {
                break;
            };
            self.handle.publish(self.to, publish)?;
            self.unacknowledged += 1;
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
    let (engine, events) = Engine::builder().start_channel(EVENTS_MAX)?;
    let handle = engine.handle();
    let mut bridge = Bridge {
        from: handle.open_with(&plan(from_host, from_port)?, 0, ConnectForm::new("bridge-from"))?,
        to: handle.open_with(&plan(to_host, to_port)?, 0, ConnectForm::new("bridge-to"))?,
        filter: TopicFilterBuf::new(filter.as_str())?,
        to_is_up: false,
        unacknowledged: 0,
        waiting: VecDeque::new(),
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

fn plan(host: &str, port: &str) -> Result<Plan, Box<dyn Error>> {
    let mut way = Way::tcp(host, port.parse()?);
    way.resolve()?;
    Ok(Plan::new(way))
}
