//! What only 5.0 has: authentication in steps, and topics as aliases.

use std::sync::mpsc::{Sender, channel};

use fleetwire_codec::{Carrier, PropertiesBuf, Property, QoS, ReasonCode, TopicName};
use fleetwire_engine::{
    At, ConnectForm, Engine, Event, Handler, Listener, Outbox, Plan, Publish, PublishError, Shard,
};

use crate::support::*;

const METHOD: Property<'_> = Property::AuthenticationMethod("COUNT");

/// Asks its client to count, takes two aliases, and notes the topics that come.
#[derive(Default)]
struct Counting {
    topics: Vec<String>,
}

impl Handler for Counting {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(connect) => {
                assert_eq!(connect.properties.authentication_method(), Some("COUNT"));
                let challenge =
                    PropertiesBuf::of(Carrier::Auth, &[METHOD, Property::AuthenticationData(b"1")]).unwrap();
                let go_on = ReasonCode::ContinueAuthentication;
                out.auth(at.link, go_on, challenge.as_properties()).unwrap();
            }
            Event::Auth(auth) => {
                assert_eq!(auth.properties.authentication_data(), Some(&b"2"[..]));
                // v5 [MQTT-4.12.0-5].
                assert!(
                    out.accept(at.link, false, fleetwire_codec::Properties::EMPTY, 0)
                        .is_err()
                );
                let connack =
                    PropertiesBuf::of(Carrier::Connack, &[METHOD, Property::TopicAliasMaximum(2)]).unwrap();
                out.accept(at.link, false, connack.as_properties(), 0).unwrap();
            }
            Event::Message(message) => self.topics.push(message.topic.as_str().to_owned()),
            _ => {}
        }
    }
}

struct Device {
    plan: Plan,
    acked: u32,
    done: Sender<()>,
}

const TOPICS: [&str; 6] = ["t", "t", "u", "v", "u", "t"];

impl Handler for Device {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let mut form = ConnectForm::new("a");
        form.properties = Some(PropertiesBuf::of(Carrier::Connect, &[METHOD]).unwrap());
        out.open_with(&self.plan, 0, form).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Auth(auth) => {
                assert_eq!(auth.properties.authentication_data(), Some(&b"1"[..]));
                let answer =
                    PropertiesBuf::of(Carrier::Auth, &[METHOD, Property::AuthenticationData(b"2")]).unwrap();
                out.auth(at.link, auth.reason, answer.as_properties()).unwrap();
            }
            Event::Connected(_) => {
                let others =
                    PropertiesBuf::of(Carrier::Publish, &[Property::UserProperty(("a", "b"))]).unwrap();
                // Properties that no PUBLISH has go out in no form, and make no alias known.
                let connects = PropertiesBuf::of(Carrier::Connect, &[METHOD]).unwrap();
                let refuse = |out: &mut Outbox<'_>| {
                    let publish = Publish::new(TopicName::new("t").unwrap(), b"")
                        .qos(QoS::AtLeastOnce)
                        .properties(connects.as_properties());
                    for publish in [publish, publish.aliased(true)] {
                        assert_eq!(out.publish(at.link, publish), Err(PublishError::Invalid));
                    }
                };
                refuse(out);
                for (index, topic) in TOPICS.into_iter().enumerate() {
                    let mut publish = Publish::new(TopicName::new(topic).unwrap(), b"")
                        .qos(QoS::AtLeastOnce)
                        .aliased(true);
                    if index % 2 == 1 {
                        publish = publish.properties(others.as_properties());
                    }
                    out.publish(at.link, publish).unwrap();
                }
                refuse(out);
            }
            Event::Acked(_) => {
                self.acked += 1;
                if self.acked as usize == TOPICS.len() {
                    self.done.send(()).unwrap();
                }
            }
            Event::Failed(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
}

// v5 sections 4.12 and 3.3.2.3.4.
#[test]
fn a_client_authenticates_in_steps_and_its_aliases_are_topics() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Counting::default())
        .unwrap();
    let (done, finished) = channel();
    let engine = Engine::builder()
        .start(|_| Device {
            plan: plan(address),
            acked: 0,
            done: done.clone(),
        })
        .unwrap();
    finished.recv_timeout(WAIT).unwrap();
    assert!(engine.shutdown(WAIT).failed.is_empty());
    let server = server.shutdown(WAIT);
    assert!(server.failed.is_empty(), "{:?}", server.failed);
    assert_eq!(server.handlers[0].topics, TOPICS);
}
