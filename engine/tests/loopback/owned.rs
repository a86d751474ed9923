//! The channel API's messages have all that those of a handler have, in both directions.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fleetwire_codec::{
    Carrier, Connack, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Suback,
    TopicFilterBuf, TopicName, Unsuback, Version,
};
use fleetwire_engine::{
    At, ConnectForm, Engine, Event, Handler, Listener, Outbox, OwnedKind, OwnedPublish, Plan, Shard,
};

use crate::support::*;

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.encoded_len(Version::V5).unwrap()];
    packet.encode(Version::V5, &mut bytes).unwrap();
    bytes
}

/// Every property that a PUBLISH may have, those that may be repeated twice.
fn all_properties() -> PropertiesBuf {
    let properties = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(3600),
        Property::ContentType("text/plain"),
        Property::ResponseTopic(TopicName::new("answer").unwrap()),
        Property::CorrelationData(b"\x00\x07"),
        Property::SubscriptionIdentifier(9),
        Property::SubscriptionIdentifier(268_435_455),
        Property::TopicAlias(1),
        Property::UserProperty(("site", "north")),
        Property::UserProperty(("site", "south")),
    ];
    PropertiesBuf::of(Carrier::Publish, &properties).unwrap()
}

/// What comes after CONNACK: a whole message, the same by its alias, and one without anything.
fn messages() -> Vec<u8> {
    let properties = all_properties();
    let whole = Publish {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        packet_id: PacketId::new(77),
        properties: properties.as_properties(),
        ..Publish::new(TopicName::new("a/b").unwrap(), b"text")
    };
    let aliased = Publish {
        topic: TopicName::ALIASED,
        ..whole
    };
    let bare = Publish::new(TopicName::new("c").unwrap(), b"");
    [whole, aliased, bare]
        .map(|publish| encoded(&Packet::Publish(publish)))
        .concat()
}

/// Reads one packet that is shorter than 128 bytes.
fn read_short(stream: &mut impl Read) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).unwrap();
    let rest = usize::from(packet[1]);
    packet.resize(2 + rest, 0);
    stream.read_exact(&mut packet[2..]).unwrap();
    packet
}

/// Accepts two clients, and says the same to both.
fn serve_twice() -> SocketAddr {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut stream = listener.accept().unwrap().0;
            read_short(&mut stream);
            let connack = encoded(&Packet::Connack(Connack::accepted(false)));
            stream.write_all(&[connack, messages()].concat()).unwrap();
            open.push(stream);
        }
        for mut stream in open {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    address
}

fn form() -> ConnectForm {
    let mut form = ConnectForm::new("a");
    let aliases = [Property::TopicAliasMaximum(1)];
    form.properties = Some(PropertiesBuf::of(Carrier::Connect, &aliases).unwrap());
    form
}

/// Sends each message as the packet that it was.
struct Borrowing {
    plan: Plan,
    seen: Sender<Vec<u8>>,
}

impl Handler for Borrowing {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open_with(&self.plan, 0, form()).unwrap();
    }

    fn on_event(&mut self, _: At, event: Event<'_>, _: &mut Outbox<'_>) {
        if let Event::Message(message) = event {
            self.seen
                .send(encoded(&Packet::Publish(*message.publish())))
                .unwrap();
        }
    }
}

// v5 section 3.3.2.3.
#[test]
fn an_owned_message_is_the_packet_that_a_handler_is_lent() {
    let address = serve_twice();
    let (seen, borrowed) = channel();
    let _borrowing = Engine::builder()
        .start(|_| Borrowing {
            plan: plan(address),
            seen: seen.clone(),
        })
        .unwrap();
    let (engine, events) = channel_engine(Engine::builder(), 64);
    engine.handle().open_with(&plan(address), 0, form()).unwrap();
    for number in 0..3 {
        let borrowed = borrowed.recv_timeout(WAIT).unwrap();
        let owned = wait_for(&events, |_, kind| match kind {
            OwnedKind::Message(message) => Some(message.clone()),
            _ => None,
        });
        assert_eq!(encoded(&Packet::Publish(owned.publish())), borrowed);
        if number == 2 {
            assert_eq!((&*owned.topic, owned.packet_id, owned.dup), ("c", None, false));
            assert!(owned.properties().is_empty());
            continue;
        }
        assert_eq!((&*owned.topic, &*owned.payload), ("a/b", &b"text"[..]));
        assert_eq!(
            (owned.qos, owned.retain, owned.dup),
            (QoS::AtLeastOnce, true, true)
        );
        assert_eq!(owned.packet_id, PacketId::new(77));
        let (properties, all) = (owned.properties(), all_properties());
        assert_eq!(properties, all.as_properties());
        assert_eq!(properties.payload_format_indicator(), Some(true));
        assert_eq!(properties.message_expiry_interval(), Some(3600));
        assert_eq!(properties.content_type(), Some("text/plain"));
        assert_eq!(properties.response_topic().unwrap(), "answer");
        assert_eq!(properties.correlation_data(), Some(&b"\x00\x07"[..]));
        assert_eq!(properties.topic_alias(), Some(1));
        let ids: Vec<u32> = properties.subscription_identifiers().collect();
        assert_eq!(ids, [9, 268_435_455]);
        let user: Vec<_> = properties.user_properties().collect();
        assert_eq!(user, [("site", "north"), ("site", "south")]);
    }
}

/// Takes one alias, and sends the properties and the topic of each message.
struct Server {
    seen: Sender<(String, bool, Vec<u8>)>,
}

impl Handler for Server {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                let connack = [Property::TopicAliasMaximum(1)];
                let connack = PropertiesBuf::of(Carrier::Connack, &connack).unwrap();
                out.accept(at.link, false, connack.as_properties(), 0).unwrap();
            }
            Event::Message(message) => {
                let aliased = message.properties.topic_alias().is_some();
                let others = message.properties.iter();
                let others: Vec<_> = others
                    .filter(|property| !matches!(property, Property::TopicAlias(_)))
                    .collect();
                let others = PropertiesBuf::of(Carrier::Publish, &others).unwrap();
                let bytes = others.as_properties().as_bytes().to_vec();
                self.seen
                    .send((message.topic.as_str().to_owned(), aliased, bytes))
                    .unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn an_owned_publish_says_all_that_a_borrowed_one_can() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, come) = channel();
    let _server = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Server { seen: seen.clone() })
        .unwrap();
    let (_engine, events, handle, link) = device_up(Engine::builder(), 64, address, 0, form());
    let user = PropertiesBuf::of(Carrier::Publish, &[Property::UserProperty(("a", "b"))]).unwrap();
    let intended = Instant::now() - Duration::from_secs(60);
    let publish = OwnedPublish::new(topic("t"), "x").qos(QoS::AtLeastOnce);
    let all = publish
        .clone()
        .properties(user.clone())
        .aliased(true)
        .intended(intended)
        .token(5);
    for (publish, expected) in [
        (
            all.clone(),
            ("t".to_owned(), true, user.as_properties().as_bytes().to_vec()),
        ),
        (
            all.clone(),
            ("t".to_owned(), true, user.as_properties().as_bytes().to_vec()),
        ),
        (publish, ("t".to_owned(), false, Vec::new())),
    ] {
        let with_all = publish.token == 5;
        handle.publish(link, publish).unwrap();
        assert_eq!(come.recv_timeout(WAIT).unwrap(), expected);
        let ack = wait_for(&events, |_, kind| match kind {
            OwnedKind::Acked(ack) => Some(*ack),
            _ => None,
        });
        assert_eq!(ack.intended == intended, with_all);
    }
    // One that is not accepted comes back with its time too.
    handle.close(link).unwrap();
    handle.publish(link, all).unwrap();
    let dropped = wait_for(&events, |_, kind| match kind {
        OwnedKind::Dropped(dropped) => Some(*dropped),
        _ => None,
    });
    assert_eq!((dropped.token, dropped.intended), (5, intended));
}

/// Answers a client by hand: CONNACK, SUBACK and UNSUBACK, each with a property.
fn serve_answers() -> SocketAddr {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        read_short(&mut stream);
        let keep_alive = PropertiesBuf::of(Carrier::Connack, &[Property::ServerKeepAlive(9)]).unwrap();
        let connack = Connack::accepted(false).with_properties(keep_alive.as_properties());
        stream.write_all(&encoded(&Packet::Connack(connack))).unwrap();
        read_short(&mut stream);
        let why = |carrier| PropertiesBuf::of(carrier, &[Property::ReasonString("why")]).unwrap();
        let (suback, unsuback) = (why(Carrier::Suback), why(Carrier::Unsuback));
        let suback = Packet::Suback(Suback {
            packet_id: PacketId::MIN,
            properties: suback.as_properties(),
            codes: &[0x80],
        });
        stream.write_all(&encoded(&suback)).unwrap();
        read_short(&mut stream);
        let unsuback = Packet::Unsuback(Unsuback {
            packet_id: PacketId::MIN,
            properties: unsuback.as_properties(),
            codes: &[0x11],
        });
        stream.write_all(&encoded(&unsuback)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    address
}

#[test]
fn owned_answers_bring_their_codes_and_properties() {
    let address = serve_answers();
    let (engine, events) = channel_engine(Engine::builder(), 64);
    let handle = engine.handle();
    let link = handle.open_with(&plan(address), 0, form()).unwrap();
    let keep_alive = wait_for(&events, |_, kind| match kind {
        OwnedKind::Connected { properties, .. } => Some(properties.as_properties().server_keep_alive()),
        _ => None,
    });
    assert_eq!(keep_alive, Some(9));
    let filter = TopicFilterBuf::new("a").unwrap();
    handle
        .subscribe(link, vec![(filter.clone(), QoS::AtMostOnce)])
        .unwrap();
    let text = |properties: Properties<'_>| properties.reason_string().map(str::to_owned);
    let suback = wait_for(&events, |_, kind| match kind {
        OwnedKind::Subscribed {
            codes, properties, ..
        } => Some((codes.clone(), text(properties.as_properties()))),
        _ => None,
    });
    assert_eq!(suback, (vec![0x80], Some("why".to_owned())));
    handle.unsubscribe(link, vec![filter]).unwrap();
    let unsuback = wait_for(&events, |_, kind| match kind {
        OwnedKind::Unsubscribed {
            codes, properties, ..
        } => Some((codes.clone(), text(properties.as_properties()))),
        _ => None,
    });
    assert_eq!(unsuback, (vec![0x11], Some("why".to_owned())));
}
