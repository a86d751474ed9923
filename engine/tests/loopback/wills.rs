//! Wills: what a client says of one, and what a server's application sees of it.

use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};

use fleetwire_codec::{
    Carrier, Properties, PropertiesBuf, Property, QoS, TopicName, TopicNameBuf, Version, Will,
};
use fleetwire_engine::{
    At, ConnectForm, Dial, DialError, Engine, Event, Handler, Listener, Outbox, OwnedKind, Plan, Shard, Slug,
    WillForm,
};

use crate::support::*;

/// A will as the server's application has kept it.
#[derive(Debug, PartialEq)]
struct Kept {
    topic: TopicNameBuf,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    properties: Vec<u8>,
}

impl From<Will<'_>> for Kept {
    fn from(will: Will<'_>) -> Self {
        Self {
            topic: will.topic.into(),
            payload: will.payload.to_vec(),
            qos: will.qos,
            retain: will.retain,
            properties: will.properties.as_bytes().to_vec(),
        }
    }
}

struct Server {
    wills: Sender<Option<Kept>>,
}

impl Handler for Server {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if let Event::Connect(connect) = event {
            self.wills.send(connect.will.map(Kept::from)).unwrap();
            out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
        }
    }
}

struct Device {
    plan: Plan,
    version: Version,
    will: Option<WillForm>,
}

impl Handler for Device {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open(&self.plan, 0).unwrap();
    }

    fn on_dial(&mut self, _: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        dial.client_id("a").version(self.version);
        match self.will.take() {
            Some(will) => dial.will_form(will),
            None => dial.will(TopicName::new("plain").unwrap(), b"", QoS::ExactlyOnce, false),
        };
        Ok(())
    }

    fn on_event(&mut self, _: At, event: Event<'_>, _: &mut Outbox<'_>) {
        if let Event::Failed(failure) = event {
            panic!("{failure:?}");
        }
    }
}

fn all_properties() -> PropertiesBuf {
    let properties = [
        Property::WillDelayInterval(30),
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(3600),
        Property::ContentType("text/plain"),
        Property::ResponseTopic(TopicName::new("hello").unwrap()),
        Property::CorrelationData(b"\x00\x07"),
        Property::UserProperty(("site", "north")),
        Property::UserProperty(("site", "south")),
    ];
    PropertiesBuf::of(Carrier::Will, &properties).unwrap()
}

fn will() -> WillForm {
    WillForm::new(TopicName::new("state").unwrap(), b"offline")
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .properties(all_properties())
}

// v5 sections 3.1.2.5 to 3.1.2.7 and 3.1.3.2 to 3.1.3.4, [MQTT-3.1.3-10]; v3.1.1 sections 3.1.2.5 to 3.1.2.7.
#[test]
fn a_server_sees_all_of_a_will_in_both_versions() {
    for version in [Version::V5, Version::V311] {
        let (wills, come) = channel();
        let listener = Listener::bind(any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let _server = Engine::builder()
            .listen(listener, None, 0)
            .start(|_| Server { wills: wills.clone() })
            .unwrap();
        let properties = match version {
            Version::V5 => all_properties().as_properties().as_bytes().to_vec(),
            Version::V311 => Vec::new(),
        };
        let expected = Kept {
            topic: topic("state"),
            payload: b"offline".to_vec(),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties,
        };
        let plain = Kept {
            topic: topic("plain"),
            payload: Vec::new(),
            qos: QoS::ExactlyOnce,
            retain: false,
            properties: Vec::new(),
        };
        for (will, expected) in [(Some(will()), &expected), (None, &plain)] {
            let _engine = Engine::builder()
                .start(|_| Device {
                    plan: plan(address),
                    version,
                    will: will.clone(),
                })
                .unwrap();
            assert_eq!(come.recv_timeout(WAIT).unwrap().as_ref(), Some(expected));
        }
        // The same from a form, and a client without one.
        let (engine, _events) = channel_engine(Engine::builder(), 64);
        let mut form = ConnectForm::new("b");
        form.version = version;
        engine
            .handle()
            .open_with(&plan(address), 0, form.clone())
            .unwrap();
        assert_eq!(come.recv_timeout(WAIT).unwrap(), None);
        form.will = Some(will());
        engine.handle().open_with(&plan(address), 0, form).unwrap();
        assert_eq!(come.recv_timeout(WAIT).unwrap(), Some(expected));
    }
}

#[test]
fn a_will_that_no_connect_can_carry_is_no_attempt() {
    let aliased = WillForm::new(TopicName::ALIASED, b"");
    let too_long = WillForm::new(TopicName::new("a").unwrap(), &[0; 65_536]);
    let connects = PropertiesBuf::of(Carrier::Connect, &[Property::ReceiveMaximum(1)]).unwrap();
    let foreign = will().properties(connects);
    // Nobody listens there, and nobody is asked.
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for will in [aliased, too_long, foreign] {
        let (engine, events) = channel_engine(Engine::builder(), 64);
        let mut form = ConnectForm::new("a");
        form.will = Some(will);
        engine.handle().open_with(&plan(nowhere), 0, form).unwrap();
        let (slug, text) = wait_for(&events, |_, kind| match kind {
            OwnedKind::Failed(failure) => Some((failure.slug, failure.text.clone())),
            _ => None,
        });
        assert_eq!(slug, Slug::DIAL_REFUSED, "{text}");
        assert!(text.starts_with("no CONNECT can be made of it"), "{text}");
    }
}
