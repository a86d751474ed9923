//! What a subscription may say besides its filter, what comes back with its messages, and what a server does not offer.

use std::sync::mpsc::{Sender, channel};

use fleetwire_codec::{
    Carrier, Properties, PropertiesBuf, Property, QoS, RetainHandling, SubscriptionOptions, TopicFilter,
    TopicFilterBuf, TopicName, Version,
};
use fleetwire_engine::{
    At, ConnectForm, Engine, Event, Handler, LinkId, Listener, Outbox, OwnedKind, Plan, Publish,
    PublishError, Shard, VerbError,
};

use crate::support::*;

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

fn identified(id: u32) -> PropertiesBuf {
    PropertiesBuf::of(Carrier::Subscribe, &[Property::SubscriptionIdentifier(id)]).unwrap()
}

/// Filters that a server was asked for, with their options and the identifiers of their SUBSCRIBE.
type Asked = Vec<(String, SubscriptionOptions, Vec<u32>)>;

/// Grants what it is asked for, notes it, and answers with one message that carries all identifiers so far.
#[derive(Default)]
struct Server {
    connack: Option<PropertiesBuf>,
    asked: Asked,
}

impl Handler for Server {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                let properties = self
                    .connack
                    .as_ref()
                    .map_or(Properties::EMPTY, PropertiesBuf::as_properties);
                out.accept(at.link, false, properties, 0).unwrap();
            }
            Event::Subscribe(subscribe) => {
                let ids: Vec<u32> = subscribe.properties.subscription_identifiers().collect();
                let codes: Vec<u8> = subscribe.filters.iter().map(|_| 0).collect();
                for (filter, options) in subscribe.filters.iter() {
                    self.asked
                        .push((filter.as_str().to_owned(), options, ids.clone()));
                }
                out.suback(at.link, subscribe.packet_id, &codes).unwrap();
                let all = self.asked.iter().flat_map(|(_, _, ids)| ids);
                let all: Vec<_> = all.map(|id| Property::SubscriptionIdentifier(*id)).collect();
                let all = PropertiesBuf::of(Carrier::Publish, &all).unwrap();
                let publish = Publish::new(TopicName::new("a").unwrap(), b"").properties(all.as_properties());
                out.publish(at.link, publish).unwrap();
            }
            _ => {}
        }
    }
}

fn serve(connack: &[Property<'_>]) -> (Engine<Server>, std::net::SocketAddr) {
    let connack = PropertiesBuf::of(Carrier::Connack, connack).unwrap();
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Server {
            connack: Some(connack.clone()),
            ..Server::default()
        })
        .unwrap();
    (engine, address)
}

type Step = fn(LinkId, &mut Outbox<'_>);

/// Does its step when it is connected, and sends the identifiers of each message.
struct Device {
    plan: Plan,
    version: Version,
    step: Step,
    seen: Sender<Vec<u32>>,
}

impl Handler for Device {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let mut form = ConnectForm::new("a");
        form.version = self.version;
        out.open_with(&self.plan, 0, form).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => (self.step)(at.link, out),
            Event::Message(message) => {
                let ids = message.properties.subscription_identifiers().collect();
                self.seen.send(ids).unwrap();
            }
            Event::Failed(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
}

/// Runs a step of a device, and answers what it saw of each message up to `messages`, and what the server was asked.
fn run(connack: &[Property<'_>], version: Version, messages: usize, step: Step) -> (Vec<Vec<u32>>, Asked) {
    let (server, address) = serve(connack);
    let (seen, comes) = channel();
    let engine = Engine::builder()
        .start(|_| Device {
            plan: plan(address),
            version,
            step,
            seen: seen.clone(),
        })
        .unwrap();
    let seen = (0..messages).map(|_| comes.recv_timeout(WAIT).unwrap()).collect();
    assert!(engine.shutdown(WAIT).failed.is_empty());
    let mut server = server.shutdown(WAIT);
    assert!(server.failed.is_empty(), "{:?}", server.failed);
    (seen, server.handlers.remove(0).asked)
}

// v5 sections 3.8.2.1.2, 3.8.3.1, 3.3.2.3.8 and 3.3.4, [MQTT-3.3.4-3] to [MQTT-3.3.4-5].
#[test]
fn an_identifier_goes_out_with_a_subscription_and_comes_back_with_its_messages() {
    const OPTIONS: SubscriptionOptions = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let (seen, asked) = run(&[], Version::V5, 3, |link, out| {
        let plain = SubscriptionOptions::new(QoS::AtMostOnce);
        out.subscribe_with(link, &[(filter("a/#"), OPTIONS)], identified(1).as_properties())
            .unwrap();
        let most = identified(268_435_455);
        let both = [(filter("a"), plain), (filter("$share/g/a"), plain)];
        out.subscribe_with(link, &both, most.as_properties()).unwrap();
        out.subscribe(link, &[(filter("b"), QoS::AtMostOnce)]).unwrap();
        // A Subscription Identifier is a server's in PUBLISH: v5 [MQTT-3.3.4-6].
        let wrong = PropertiesBuf::of(Carrier::Publish, &[Property::SubscriptionIdentifier(1)]).unwrap();
        let publish = Publish::new(TopicName::new("a").unwrap(), b"").properties(wrong.as_properties());
        assert_eq!(out.publish(link, publish), Err(PublishError::Invalid));
        // No such packet can be: v5 [MQTT-3.8.3-4], [MQTT-3.8.3-2], section 3.8.2.1.
        let shared = [(filter("$share/g/a"), OPTIONS)];
        for (filters, properties) in [
            (&shared[..], Properties::EMPTY),
            (&[], Properties::EMPTY),
            (
                &both[..],
                PropertiesBuf::of(Carrier::Connect, &[Property::ReceiveMaximum(1)])
                    .unwrap()
                    .as_properties(),
            ),
        ] {
            let refused = out.subscribe_with(link, filters, properties);
            assert_eq!(refused, Err(VerbError::Invalid), "{filters:?}");
        }
    });
    let most = 268_435_455;
    assert_eq!(seen, [vec![1], vec![1, most, most], vec![1, most, most]]);
    let asked: Vec<_> = asked
        .iter()
        .map(|(filter, options, ids)| (filter.as_str(), *options, ids.as_slice()))
        .collect();
    let plain = SubscriptionOptions::new(QoS::AtMostOnce);
    assert_eq!(
        asked,
        [
            ("a/#", OPTIONS, &[1][..]),
            ("a", plain, &[most]),
            ("$share/g/a", plain, &[most]),
            ("b", plain, &[]),
        ]
    );
    // Out of the range of v5 section 3.8.2.1.2.
    for id in [0, 268_435_456, u32::MAX] {
        assert!(PropertiesBuf::of(Carrier::Subscribe, &[Property::SubscriptionIdentifier(id)]).is_err());
    }
}

// v5 sections 3.2.2.3.4, 3.2.2.3.5, 3.2.2.3.11 to 3.2.2.3.13, [MQTT-3.2.2-11], [MQTT-3.2.2-14].
#[test]
fn what_the_connack_says_is_unavailable_is_refused_here() {
    let unavailable = [
        Property::MaximumQoS(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::WildcardSubscriptionAvailable(false),
        Property::SubscriptionIdentifierAvailable(false),
        Property::SharedSubscriptionAvailable(false),
    ];
    let (_, asked) = run(&unavailable, Version::V5, 1, |link, out| {
        let refused = Err(VerbError::Refused);
        for text in ["a/#", "+", "$share/g/a"] {
            assert_eq!(out.subscribe(link, &[(filter(text), QoS::AtMostOnce)]), refused);
        }
        let plain = [(filter("a"), SubscriptionOptions::new(QoS::ExactlyOnce))];
        let identified = out.subscribe_with(link, &plain, identified(1).as_properties());
        assert_eq!(identified, refused);
        let publish = Publish::new(TopicName::new("a").unwrap(), b"");
        for publish in [publish.qos(QoS::ExactlyOnce), publish.retain(true)] {
            assert_eq!(out.publish(link, publish), Err(PublishError::Refused));
        }
        out.publish(link, publish.qos(QoS::AtLeastOnce)).unwrap();
        // Maximum QoS binds publishes, and no subscription (v5 section 3.2.2.3.4).
        out.subscribe_with(link, &plain, Properties::EMPTY).unwrap();
    });
    assert_eq!(asked.len(), 1);
}

#[test]
fn a_subscription_of_3_1_1_has_nothing_but_its_qos() {
    let (_, asked) = run(&[], Version::V311, 1, |link, out| {
        let plain = SubscriptionOptions::new(QoS::AtMostOnce);
        let identified = out.subscribe_with(link, &[(filter("a"), plain)], identified(1).as_properties());
        assert_eq!(identified, Err(VerbError::Refused));
        let no_local = SubscriptionOptions {
            no_local: true,
            ..plain
        };
        let invalid = out.subscribe_with(link, &[(filter("a"), no_local)], Properties::EMPTY);
        assert_eq!(invalid, Err(VerbError::Invalid));
        let user = PropertiesBuf::of(Carrier::Subscribe, &[Property::UserProperty(("a", "b"))]).unwrap();
        out.subscribe_with(link, &[(filter("a"), plain)], user.as_properties())
            .unwrap();
    });
    assert_eq!(asked.len(), 1);
}

#[test]
fn the_channel_api_has_the_same_subscriptions_and_refusals() {
    for (available, id) in [(true, 5), (false, 6)] {
        let (server, address) = serve(&[Property::SubscriptionIdentifierAvailable(available)]);
        let (engine, events, handle, link) =
            device_up(Engine::builder(), 64, address, 7, ConnectForm::new("a"));
        let filters = vec![(
            TopicFilterBuf::new("a").unwrap(),
            SubscriptionOptions::new(QoS::AtLeastOnce),
        )];
        handle.subscribe_with(link, filters, identified(id)).unwrap();
        let error = wait_for(&events, |_, kind| match kind {
            OwnedKind::Subscribed { .. } => Some(None),
            OwnedKind::Rejected(rejected) => Some(Some((rejected.verb, rejected.error))),
            _ => None,
        });
        let expected = (!available).then_some(("subscribe", VerbError::Refused));
        assert_eq!(error, expected);
        drop(engine);
        let asked = server.shutdown(WAIT).handlers.remove(0).asked;
        let ids: Vec<u32> = asked.into_iter().flat_map(|(_, _, ids)| ids).collect();
        assert_eq!(ids, if available { vec![id] } else { vec![] });
    }
}
