//! A tiny server: everybody may come, and who has subscribed to a filter gets what matches it, at QoS 0.
//!
//! ```sh
//! cargo run -p fleetwire-engine --example server -- 127.0.0.1:1883
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::thread::park;

use fleetwire_codec::{Properties, QoS, TopicFilterBuf};
use fleetwire_engine::{At, Engine, Event, Handler, LinkId, Listener, Outbox, Publish, PublishError};

/// Filters that one client may have.
const FILTERS_MAX: usize = 100;
// Codes of SUBACK and UNSUBACK (v5 sections 3.9.3 and 3.11.3).
const GRANTED_QOS_0: u8 = 0x00;
const QUOTA_EXCEEDED: u8 = 0x97;
const SUCCESS: u8 = 0x00;
const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;

#[derive(Default)]
struct Server {
    subscriptions: HashMap<LinkId, Vec<TopicFilterBuf>>,
}

impl Handler for Server {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        let done = match event {
            Event::Connect(connect) => {
                println!("{} connects", connect.client_id);
                out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs)
            }
            Event::Subscribe(subscribe) => {
                let filters = self.subscriptions.entry(at.link).or_default();
                let mut codes = Vec::new();
                for (filter, _) in subscribe.filters.iter() {
                    let known = filters.iter().any(|known| known.as_topic_filter() == filter);
                    if !known && filters.len() == FILTERS_MAX {
                        codes.push(QUOTA_EXCEEDED);
                        continue;
                    }
                    if !known {
                        println!("subscription to {filter}");
                        filters.push(filter.into());
                    }
                    codes.push(GRANTED_QOS_0);
                }
                out.suback(at.link, subscribe.packet_id, &codes)
            }
            Event::Unsubscribe(unsubscribe) => {
                let filters = self.subscriptions.entry(at.link).or_default();
                let codes: Vec<u8> = unsubscribe
                    .filters
                    .iter()
                    .map(|filter| {
                        let before = filters.len();
                        filters.retain(|known| known.as_topic_filter() != filter);
                        if filters.len() < before {
                            SUCCESS
                        } else {
                            NO_SUBSCRIPTION_EXISTED
                        }
                    })
                    .collect();
                out.unsuback(at.link, unsubscribe.packet_id, &codes)
            }
            Event::Message(message) => {
                let copy = Publish::new(message.topic, message.payload)
                    .qos(QoS::AtMostOnce)
                    .properties(message.properties);
                for (link, filters) in &self.subscriptions {
                    if filters
                        .iter()
                        .any(|filter| filter.as_topic_filter().matches(message.topic))
                    {
                        match out.publish(*link, copy) {
                            // At QoS 0 who does not keep up misses it.
                            Ok(_) | Err(PublishError::Full | PublishError::Offline) => {}
                            Err(error) => eprintln!("not delivered: {error}"),
                        }
                    }
                }
                Ok(())
            }
            Event::Disconnected(end) => {
                println!("gone: {}", end.text);
                self.subscriptions.remove(&at.link);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            eprintln!("{error}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("argument: ADDRESS:PORT")?;
    let listener = Listener::bind(address.parse()?)?;
    println!("listening on {}", listener.local_addr()?);
    let _engine = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Server::default())?;
    loop {
        park();
    }
}
