//! Every setting at its least and at its most, verbs that nobody should call so, and the longest of what MQTT can say.

use std::fmt;
use std::time::Duration;

use fleetwire_codec::{
    Carrier, Properties, PropertiesBuf, Property, QoS, ReasonCode, TopicFilter, TopicName,
};
use fleetwire_engine::sim::Sim;
use fleetwire_engine::{
    At, Backoff, ConnectForm, Engine, Event, Handler, Limits, LinkId, Outbox, Plan, Publish, PublishError,
    Shard, StartError, VerbError, Way,
};

const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: &str = "10.0.0.1:1883";

fn plan(connect_timeout: Duration, backoff: Backoff) -> Plan {
    let mut way = Way::tcp("10.0.0.1", 1883);
    way.resolve().unwrap();
    Plan::new(way).connect_timeout(connect_timeout).backoff(backoff)
}

/// Accepts everybody, and counts what it gets.
#[derive(Default)]
struct Host {
    received: Vec<(usize, usize)>,
    filters: Vec<usize>,
    maximum: Option<u32>,
}

impl Handler for Host {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                let properties: Vec<Property<'_>> = self
                    .maximum
                    .map(Property::MaximumPacketSize)
                    .into_iter()
                    .collect();
                let properties = PropertiesBuf::of(Carrier::Connack, &properties).unwrap();
                // With an output bound of nothing there is no answer.
                let _ = out.accept(at.link, false, properties.as_properties(), 0);
                // Not a server's verbs.
                let filter = TopicFilter::new("#").unwrap();
                let subscribed = out.subscribe(at.link, &[(filter, QoS::AtMostOnce)]);
                assert_eq!(subscribed, Err(VerbError::Invalid));
                assert_eq!(out.unsubscribe(at.link, &[filter]), Err(VerbError::Invalid));
            }
            Event::Message(message) => {
                let payload_is_whole = message.payload.iter().all(|byte| *byte == 7);
                assert!(payload_is_whole && message.topic.as_str().bytes().all(|byte| byte == b't'));
                self.received
                    .push((message.topic.as_str().len(), message.payload.len()));
            }
            Event::Subscribe(subscribe) => {
                let lens = subscribe.filters.iter().map(|(filter, _)| filter.as_str().len());
                self.filters.extend(lens);
                out.suback(at.link, subscribe.packet_id, &[0]).unwrap();
            }
            _ => {}
        }
    }
}

/// Publishes once, and notes the first thing that becomes of it.
struct Once {
    plan: Plan,
    outcome: Option<&'static str>,
}

impl Handler for Once {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open_with(&self.plan, 0, ConnectForm::new("once")).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        let outcome = match event {
            Event::Connected(_) => {
                let publish = Publish::new(TopicName::new("t").unwrap(), &[7; 10]).qos(QoS::AtLeastOnce);
                match out.publish(at.link, publish) {
                    Ok(_) => return,
                    Err(error) => panic!("{error}"),
                }
            }
            Event::Acked(_) => "acknowledged",
            Event::Failed(failure) => failure.slug.as_str(),
            Event::Disconnected(end) => end.slug.as_str(),
            _ => return,
        };
        self.outcome.get_or_insert(outcome);
    }
}

fn once(limits: &Limits, plan: Plan, rate: f64) -> Option<&'static str> {
    let mut sim = Sim::new(1);
    let server =
        Engine::builder()
            .limits(limits.clone())
            .listen(sim.listener(ADDRESS.parse().unwrap()), None, 0);
    let _server = sim.start(server, |_| Host::default()).unwrap();
    let mut once = Some(Once { plan, outcome: None });
    let builder = Engine::builder().limits(limits.clone()).connect_rate(rate);
    let client = sim.start(builder, |_| once.take().unwrap()).unwrap();
    // A loop that spins ends this with an error.
    sim.run_for(5 * SECOND).unwrap();
    let outcome = client.with_handler(0, |once| once.outcome).unwrap();
    client.begin_shutdown(Duration::MAX);
    assert!(sim.run_until(100 * SECOND, || client.has_ended()).unwrap());
    outcome
}

#[test]
fn every_bound_works_at_nothing_and_at_the_most() {
    type Set = fn(Limits, bool) -> Limits;
    let settings: [(&str, Set, &str); 12] = [
        (
            "links_max",
            |limits, most| limits.links_max(if most { usize::MAX } else { 0 }),
            "acknowledged",
        ),
        (
            "handshakes_max",
            |limits, most| limits.handshakes_max(if most { usize::MAX } else { 0 }),
            "acknowledged",
        ),
        (
            "packet_len_max",
            |limits, most| limits.packet_len_max(if most { usize::MAX } else { 0 }),
            "closed_before_connack",
        ),
        (
            "output_bytes_max",
            |limits, most| limits.output_bytes_max(if most { usize::MAX } else { 0 }),
            "overloaded",
        ),
        (
            "in_flight_max",
            |limits, most| limits.in_flight_max(if most { u16::MAX } else { 0 }),
            "acknowledged",
        ),
        (
            "retained_bytes_max",
            |limits, most| limits.retained_bytes_max(if most { usize::MAX } else { 0 }),
            "acknowledged",
        ),
        (
            "tls_keys_max",
            |limits, most| limits.tls_keys_max(if most { usize::MAX } else { 0 }),
            "acknowledged",
        ),
        (
            "commands_max",
            |limits, most| limits.commands_max(if most { usize::MAX } else { 0 }),
            "acknowledged",
        ),
        (
            "ack_timeout",
            |limits, most| limits.ack_timeout(if most { Duration::MAX } else { Duration::ZERO }),
            "acknowledged",
        ),
        (
            "pingresp_timeout",
            |limits, most| limits.pingresp_timeout(if most { Duration::MAX } else { Duration::ZERO }),
            "acknowledged",
        ),
        (
            "accept_timeout",
            |limits, most| limits.accept_timeout(if most { Duration::MAX } else { Duration::ZERO }),
            "closed_before_connack",
        ),
        (
            "linger_timeout",
            |limits, most| limits.linger_timeout(if most { Duration::MAX } else { Duration::ZERO }),
            "acknowledged",
        ),
    ];
    let usual = || plan(SECOND, Backoff::default());
    for (name, set, at_nothing) in settings {
        let most = once(&set(Limits::default(), true), usual(), f64::INFINITY);
        assert_eq!(most, Some("acknowledged"), "{name} at its most");
        let least = once(&set(Limits::default(), false), usual(), f64::INFINITY);
        assert_eq!(least, Some(at_nothing), "{name} at nothing");
    }
    let limits = Limits::default();
    let most = once(
        &limits.clone().buffer_bytes_max(usize::MAX),
        usual(),
        f64::INFINITY,
    );
    assert_eq!(most, Some("acknowledged"));
    let refused = Engine::builder()
        .limits(limits.buffer_bytes_max(0))
        .start(|_| Host::default());
    assert!(matches!(refused, Err(StartError::NoBuffers)));
}

#[test]
fn a_plan_works_at_nothing_and_at_the_most() {
    let limits = Limits::default();
    for wait in [Duration::ZERO, Duration::MAX] {
        let backoff = Backoff::new(wait, Duration::ZERO);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE] {
            let outcome = once(&limits, plan(Duration::MAX, backoff), rate);
            assert_eq!(outcome, Some("acknowledged"), "{wait:?}, {rate} a second");
        }
        let outcome = once(&limits, plan(Duration::ZERO, backoff), f64::INFINITY);
        assert_eq!(outcome, Some("tcp_timeout"), "{wait:?}");
    }
    for shards in [0, 1025, usize::MAX] {
        let refused = Engine::builder().shards(shards).start(|_| Host::default());
        assert!(refused.is_err(), "{shards} shards");
    }
    let (engine, events) = Engine::builder().start_channel(usize::MAX).unwrap();
    assert!(events.try_next().is_none());
    assert!(engine.shutdown(Duration::ZERO).failed.is_empty());
}

/// Calls every verb where it has no meaning, and notes the answers.
struct Misuser {
    plan: Plan,
    stranger: LinkId,
    answers: Vec<(&'static str, String)>,
}

impl Misuser {
    fn try_all(&mut self, when: &'static str, link: LinkId, out: &mut Outbox<'_>) {
        let filter = TopicFilter::new("#").unwrap();
        let topic = TopicName::new("t").unwrap();
        let alias = PropertiesBuf::of(Carrier::Publish, &[Property::TopicAlias(1)]).unwrap();
        let id = fleetwire_codec::PacketId::MIN;
        let none = Properties::EMPTY;
        let aliased = Publish::new(topic, b"").properties(alias.as_properties());
        let verbs = [
            text(out.publish(link, Publish::new(topic, b""))),
            text(out.publish(link, aliased)),
            text(out.subscribe(link, &[])),
            text(out.subscribe(link, &[(filter, QoS::AtMostOnce)])),
            text(out.unsubscribe(link, &[])),
            text(out.accept(link, true, none, 0)),
            text(
                out.accept_session(link, None, none, 0)
                    .map_err(|(error, _)| error),
            ),
            text(out.auth(link, ReasonCode::Success, none)),
            text(out.suback(link, id, &[0])),
            text(out.unsuback(link, id, &[0])),
            text(out.every(link, out.now(), Duration::ZERO)),
        ];
        assert!(out.take_session(link).is_none());
        self.answers.push((when, verbs.join(" ")));
    }
}

fn text<T, E: fmt::Debug>(answer: Result<T, E>) -> String {
    match answer {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

impl Handler for Misuser {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let link = out.open_with(&self.plan, 0, ConnectForm::new("misuser")).unwrap();
        self.try_all("before", link, out);
        let stranger = self.stranger;
        self.try_all("stranger", stranger, out);
        // No answer, and no effect.
        out.close(stranger);
        out.abort(stranger);
        out.disconnect(stranger, ReasonCode::Success, Properties::EMPTY);
        out.refuse(stranger, ReasonCode::Banned);
        out.pause_reading(stranger);
        out.resume_reading(stranger);
        out.set_token(stranger, 7);
        out.cancel_schedule(stranger);
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                self.try_all("connected", at.link, out);
                out.close(at.link);
                self.try_all("closed", at.link, out);
            }
            Event::Disconnected(_) => self.try_all("ended", at.link, out),
            _ => {}
        }
    }
}

#[test]
fn verbs_answer_where_they_have_no_meaning() {
    let mut sim = Sim::new(1);
    let server = Engine::builder().listen(sim.listener(ADDRESS.parse().unwrap()), None, 0);
    let _server = sim.start(server, |_| Host::default()).unwrap();
    // An id that nothing here has.
    let decoy = sim.start(Engine::builder(), |_| Host::default()).unwrap();
    let nowhere = plan(SECOND, Backoff::default()).reconnect(false);
    let ids = [0, 1, 2].map(|token| decoy.handle().open(&nowhere, token).unwrap());
    let mut misuser = Some(Misuser {
        plan: plan(SECOND, Backoff::default()),
        stranger: ids[2],
        answers: Vec::new(),
    });
    let engine = sim.start(Engine::builder(), |_| misuser.take().unwrap()).unwrap();
    sim.run_for(SECOND).unwrap();
    let offline = "Offline Offline Offline Offline Offline Offline Offline Offline Offline Offline Invalid";
    let stranger = offline.replace("Offline", "NoSuchLink");
    let connected = "done Invalid Invalid done Invalid Invalid Invalid Invalid Invalid Invalid Invalid";
    let expected = [
        ("before", offline),
        ("stranger", &stranger),
        ("connected", connected),
        ("closed", offline),
        ("ended", offline),
    ];
    engine.with_handler(0, |misuser| {
        let answers: Vec<_> = misuser
            .answers
            .iter()
            .map(|(when, answers)| (*when, answers.as_str()))
            .collect();
        assert_eq!(answers, expected);
    });
}

/// Publishes the longest topics that there are, and subscribes to one.
struct Longest {
    plan: Plan,
    acked: u32,
    too_large: Vec<usize>,
}

impl Handler for Longest {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open_with(&self.plan, 0, ConnectForm::new("longest")).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                let text = "t".repeat(65_535);
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    for (topic_len, payload_len) in
                        [(65_535, 0), (65_535, 100_000), (20_000, 10), (1, 200_000)]
                    {
                        let payload = vec![7; payload_len];
                        let topic = TopicName::new(&text[..topic_len]).unwrap();
                        match out.publish(at.link, Publish::new(topic, &payload).qos(qos)) {
                            Ok(_) => {}
                            Err(PublishError::TooLarge) => self.too_large.push(topic_len + payload_len),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                let _ = out.subscribe(at.link, &[(TopicFilter::new(&text).unwrap(), QoS::AtMostOnce)]);
            }
            Event::Acked(_) => self.acked += 1,
            other => assert!(matches!(other, Event::Subscribed(_)), "{other:?}"),
        }
    }
}

#[test]
fn the_longest_topics_and_payloads_arrive_or_are_refused_at_once() {
    for maximum in [None, Some(70_000)] {
        let mut sim = Sim::new(1);
        let server = Engine::builder().listen(sim.listener(ADDRESS.parse().unwrap()), None, 0);
        let mut host = Some(Host {
            maximum,
            ..Host::default()
        });
        let server = sim.start(server, |_| host.take().unwrap()).unwrap();
        let mut longest = Some(Longest {
            plan: plan(SECOND, Backoff::default()),
            acked: 0,
            too_large: Vec::new(),
        });
        let limits = Limits::default().output_bytes_max(8 << 20);
        let client = sim
            .start(Engine::builder().limits(limits), |_| longest.take().unwrap())
            .unwrap();
        sim.run_for(10 * SECOND).unwrap();
        let (acked, too_large) = client
            .with_handler(0, |longest| (longest.acked, longest.too_large.clone()))
            .unwrap();
        let mut received = server.with_handler(0, |host| host.received.clone()).unwrap();
        received.truncate(4);
        server.with_handler(0, |host| assert_eq!(host.filters, [65_535]));
        if maximum.is_some() {
            assert_eq!(too_large, [165_535, 200_001].repeat(3));
            assert_eq!((acked, &received[..2]), (4, &[(65_535, 0), (20_000, 10)][..]));
        } else {
            assert!(too_large.is_empty());
            let all = [(65_535, 0), (65_535, 100_000), (20_000, 10), (1, 200_000)];
            assert_eq!((acked, &received[..]), (8, &all[..]));
        }
    }
}
