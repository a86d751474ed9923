//! What the other side hears of a DISCONNECT, whatever the application asks for.

use std::time::Duration;

use fleetwire_codec::{Carrier, Properties, PropertiesBuf, Property, ReasonCode};
use fleetwire_engine::sim::Sim;
use fleetwire_engine::{At, ConnectForm, Engine, Event, Handler, Outbox, Plan, Shard, Slug, Way};

const SECOND: Duration = Duration::from_secs(1);

/// What it says when its connection is up, if anything, and what it hears of its end.
#[derive(Default)]
struct Side {
    plan: Option<Plan>,
    says: Option<(ReasonCode, PropertiesBuf)>,
    /// By `refuse`.
    refuses: bool,
    heard: Option<(Slug, Option<ReasonCode>)>,
}

impl Side {
    fn say(&self, at: At, out: &mut Outbox<'_>) {
        let Some((reason, properties)) = &self.says else {
            return;
        };
        if self.refuses {
            return out.refuse(at.link, *reason);
        }
        // The first one counts.
        for reason in [*reason, ReasonCode::NORMAL_DISCONNECTION, ReasonCode::Banned] {
            out.disconnect(at.link, reason, properties.as_properties());
        }
        out.abort(at.link);
    }
}

impl Handler for Side {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let Some(plan) = &self.plan else { return };
        let mut form = ConnectForm::new("a");
        let small = [Property::MaximumPacketSize(100)];
        form.properties = Some(PropertiesBuf::of(Carrier::Connect, &small).unwrap());
        out.open_with(plan, 0, form).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
                self.say(at, out);
            }
            Event::Connected(_) => self.say(at, out),
            Event::Disconnected(end) => self.heard = Some((end.slug, end.reason)),
            _ => {}
        }
    }
}

type Heard = (Slug, Option<ReasonCode>);

/// What the other side hears of what is said once the connection is up.
fn hears(client_says: bool, refuses: bool, reason: ReasonCode, properties: PropertiesBuf) -> Option<Heard> {
    let mut sim = Sim::new(1);
    let server = Engine::builder().listen(sim.listener("10.0.0.1:1883".parse().unwrap()), None, 0);
    let mut way = Way::tcp("10.0.0.1", 1883);
    way.resolve().unwrap();
    let mut speaker = Some(Side {
        says: Some((reason, properties)),
        refuses,
        ..Side::default()
    });
    let mut listener = Some(Side::default());
    let (mut of_server, mut of_client) = if client_says {
        (listener.take(), speaker.take())
    } else {
        (speaker.take(), listener.take())
    };
    if let Some(client) = &mut of_client {
        client.plan = Some(Plan::new(way).reconnect(false));
    }
    let server = sim.start(server, |_| of_server.take().unwrap()).unwrap();
    let client = sim
        .start(Engine::builder(), |_| of_client.take().unwrap())
        .unwrap();
    sim.run_for(SECOND).unwrap();
    let other = if client_says { &server } else { &client };
    other.with_handler(0, |side| side.heard).unwrap()
}

// v5 section 3.14.2.1, table 3-10, and [MQTT-3.14.2-1].
#[test]
fn a_disconnect_is_said_as_well_as_it_can_be() {
    use ReasonCode as Code;
    let none = || PropertiesBuf::new(Carrier::Disconnect);
    let foreign = || PropertiesBuf::of(Carrier::Connect, &[Property::ReceiveMaximum(1)]).unwrap();
    let text = "x".repeat(100);
    let long = || PropertiesBuf::of(Carrier::Disconnect, &[Property::ReasonString(&text)]).unwrap();
    for (client_says, reason, properties, heard) in [
        (
            true,
            Code::DisconnectWithWillMessage,
            none(),
            Some(Code::DisconnectWithWillMessage),
        ),
        (true, Code::ServerBusy, none(), Some(Code::UnspecifiedError)),
        (
            true,
            Code::NORMAL_DISCONNECTION,
            foreign(),
            Some(Code::NORMAL_DISCONNECTION),
        ),
        (true, Code::ServerBusy, foreign(), Some(Code::UnspecifiedError)),
        (true, Code::GrantedQoS2, none(), None),
        (false, Code::ServerBusy, none(), Some(Code::ServerBusy)),
        (false, Code::ServerBusy, foreign(), Some(Code::ServerBusy)),
        // The client takes 100 bytes.
        (false, Code::ServerBusy, long(), Some(Code::ServerBusy)),
        (
            false,
            Code::DisconnectWithWillMessage,
            none(),
            Some(Code::UnspecifiedError),
        ),
        (false, Code::GrantedQoS2, none(), None),
    ] {
        let slug = match heard {
            Some(_) => Slug::DISCONNECTED_BY_PEER,
            None => Slug::CONNECTION_LOST,
        };
        let got = hears(client_says, false, reason, properties);
        assert_eq!(got, Some((slug, heard)), "{reason}, of the client: {client_says}");
    }
}

#[test]
fn a_refusal_after_the_accept_is_a_disconnect_and_on_a_client_nothing() {
    let refuse = |client_says, reason| {
        let none = PropertiesBuf::new(Carrier::Disconnect);
        hears(client_says, true, reason, none)
    };
    let heard = Some((Slug::DISCONNECTED_BY_PEER, Some(ReasonCode::ServerBusy)));
    assert_eq!(refuse(false, ReasonCode::ServerBusy), heard);
    // A reason of CONNACK alone.
    let silent = Some((Slug::CONNECTION_LOST, None));
    assert_eq!(refuse(false, ReasonCode::BadUserNameOrPassword), silent);
    assert_eq!(refuse(true, ReasonCode::ServerBusy), None);
}
