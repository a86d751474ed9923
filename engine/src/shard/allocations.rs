//! In steady state no message allocates, in either direction and either role, plaintext and TLS.
//!
//! Two engines over real sockets are turned by hand, on one thread, and what each of them allocates is counted. The
//! crypto library allocates where a Rust allocator does not see it: once for a key that is not kept expanded, which
//! [`Stats::tls_keys_expanded`](crate::Stats::tls_keys_expanded) counts, and never for one that is.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use fleetwire_codec::{Carrier, PropertiesBuf, Property, QoS, TopicName, Version};
use fleetwire_tls::{
    ClientAuth, ClientConfigBuilder, Identity, ServerConfig, ServerConfigBuilder, ServerName, Versions,
};

use super::ShardLoop;
use crate::driver::{MioDriver, Wake};
use crate::{
    At, Dial, DialError, Engine, EngineBuilder, Event, Handler, Limits, Listener, Outbox, Plan, Publish,
    Shard, Way,
};

/// Small ones share a read; the biggest passes the receive block, so that it is parked each time.
const PAYLOAD_LENS: [usize; 4] = [10, 1000, 20_000, 100_000];
const LINKS: u64 = 4;
/// Messages that come back before counting begins, and while it goes on.
const WARM_UP: u64 = 500;
const COUNTED: u64 = 500;

/// Sends messages to its server at every quality of service, and each one again when it has come back.
struct Devices {
    plan: Plan,
    version: Version,
    keeps_sessions: bool,
    payload: Vec<u8>,
    properties: PropertiesBuf,
    received: u64,
    acked: u64,
}

impl Devices {
    fn publish(&self, at: At, topic: &str, qos: QoS, len: usize, out: &mut Outbox<'_>) {
        let topic = TopicName::new(topic).expect("it has no wildcards");
        let payload = self.payload.get(..len).expect("a length of ours");
        let publish = Publish::new(topic, payload)
            .qos(qos)
            .properties(self.properties.as_properties())
            .aliased(true);
        out.publish(at.link, publish).expect("there is room");
    }
}

impl Handler for Devices {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        for token in 0..LINKS {
            out.open(&self.plan, token).expect("few links");
        }
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        let properties = of_v5(self.version, Carrier::Connect, Property::TopicAliasMaximum(10));
        dial.client_id(&at.token.to_string())
            .version(self.version)
            .properties(&properties)
            .clean_start(!self.keeps_sessions)
            .session_expiry(Duration::from_secs(u64::from(self.keeps_sessions)));
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    // A session that is kept has copies of them, and the pool keeps four free blocks of the biggest.
                    let lens = PAYLOAD_LENS
                        .into_iter()
                        .filter(|len| !self.keeps_sessions || *len < 100_000);
                    for len in lens {
                        self.publish(at, "t", qos, len, out);
                    }
                }
            }
            Event::Message(message) => {
                self.received += 1;
                self.publish(
                    at,
                    message.topic.as_str(),
                    message.qos,
                    message.payload.len(),
                    out,
                );
            }
            Event::Acked(_) => self.acked += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// Sends every message back to where it came from.
struct Mirror {
    keeps_sessions: bool,
}

impl Handler for Mirror {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(connect) => {
                let properties = of_v5(connect.version, Carrier::Connack, Property::TopicAliasMaximum(10));
                let properties = properties.as_properties();
                if self.keeps_sessions {
                    let accepted = out.accept_session(at.link, None, properties, 0);
                    accepted.map_err(|(error, _)| error).expect("it waits for this");
                } else {
                    out.accept(at.link, false, properties, 0)
                        .expect("it waits for this");
                }
            }
            Event::Message(message) => {
                let publish = Publish::new(message.topic, message.payload)
                    .qos(message.qos)
                    .aliased(true);
                out.publish(at.link, publish).expect("there is room");
            }
            Event::Accepted(_) | Event::Acked(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A shard that is turned by hand.
struct Turned<H> {
    shard: ShardLoop<H, MioDriver>,
    wake: Wake,
}

impl<H: Handler> Turned<H> {
    fn new(builder: EngineBuilder, handler: H) -> Self {
        let (mut handler, mut woken) = (Some(handler), None);
        let make_driver = |listeners| {
            let (driver, wake) = MioDriver::new(listeners)?;
            woken = Some(wake.clone());
            Ok((driver, wake))
        };
        let parts = builder.build(Instant::now(), make_driver, |_| {
            handler.take().expect("one shard")
        });
        let mut shard = parts.expect("it starts").loops.pop().expect("there is one");
        shard.start();
        shard.work();
        let wake = woken.expect("it has a driver");
        Self { shard, wake }
    }

    /// One pass that waits for nothing; answers what it allocated.
    fn turn(&mut self) -> u64 {
        self.wake.wake();
        let counted = allocation_counter::measure(|| {
            self.shard.wait(None).expect("the system is sound");
            self.shard.work();
        });
        counted.count_total
    }

    fn keys_expanded(&self) -> u64 {
        self.shard.core.scratch.keys_expanded()
    }
}

/// 3.1.1 has none.
fn of_v5(version: Version, carrier: Carrier, property: Property<'_>) -> PropertiesBuf {
    let has = usize::from(version == Version::V5);
    PropertiesBuf::of(carrier, &[property][..has]).unwrap()
}

fn tls(versions: Versions) -> (fleetwire_tls::ClientConfig, ServerConfig) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let names = vec!["server.test".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let identity = Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let client = ClientConfigBuilder::new()
        .dangerous_no_server_verification()
        .alpn(vec![b"mqtt".to_vec()])
        .versions(versions);
    let server = ServerConfigBuilder::new(identity).alpn("mqtt", ClientAuth::None);
    (client.build().unwrap(), server.build().unwrap())
}

/// Passes on messages in both directions, and answers what client and server allocated and how many keys they expanded
/// meanwhile.
fn run(
    version: Version,
    keeps_sessions: bool,
    versions: Option<Versions>,
    keys_max: usize,
) -> [(u64, u64); 2] {
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (client_tls, server_tls) = versions.map(tls).unzip();
    let limits = Limits::default()
        .tls_keys_max(keys_max)
        .output_bytes_max(16 << 20);
    let builder = Engine::builder()
        .limits(limits.clone())
        .listen(listener, server_tls, 0);
    let mut server = Turned::new(builder, Mirror { keeps_sessions });
    let mut way = match client_tls {
        None => Way::tcp("127.0.0.1", port),
        Some(config) => Way::tls(
            "127.0.0.1",
            port,
            config,
            ServerName::parse("server.test").unwrap(),
        ),
    };
    way.resolve().unwrap();
    let properties = of_v5(
        version,
        Carrier::Publish,
        Property::UserProperty(("name", "value")),
    );
    let devices = Devices {
        plan: Plan::new(way),
        version,
        keeps_sessions,
        payload: vec![7; PAYLOAD_LENS.into_iter().max().unwrap_or(0)],
        properties,
        received: 0,
        acked: 0,
    };
    let mut client = Turned::new(Engine::builder().limits(limits), devices);

    let mut pass = |until: u64| {
        let (mut of_client, mut of_server) = (0, 0);
        while client.shard.handler_mut().received < until {
            of_client += client.turn();
            of_server += server.turn();
        }
        [
            (of_client, client.keys_expanded()),
            (of_server, server.keys_expanded()),
        ]
    };
    let before = pass(WARM_UP);
    let after = pass(WARM_UP + COUNTED);
    assert!(client.shard.handler_mut().acked > 0);
    [0, 1].map(|side| (after[side].0, after[side].1 - before[side].1))
}

#[test]
fn no_message_allocates() {
    for (version, keeps_sessions) in [(Version::V311, false), (Version::V5, false), (Version::V5, true)] {
        for versions in [None, Some(Versions::Tls12), Some(Versions::Tls13)] {
            let counted = run(version, keeps_sessions, versions, Limits::default().tls_keys_max);
            assert_eq!(
                counted,
                [(0, 0); 2],
                "{version:?} {versions:?}, sessions kept {keeps_sessions}: allocations and expanded keys of client and server"
            );
        }
    }
}

/// Where fewer keys are kept than are in use, each is expanded again and again: in the crypto library's own memory.
#[test]
fn no_message_allocates_without_room_for_keys() {
    for versions in [Versions::Tls12, Versions::Tls13] {
        let [client, server] = run(Version::V5, false, Some(versions), 1);
        assert_eq!([client.0, server.0], [0, 0], "{versions:?}");
        assert!(client.1 > COUNTED && server.1 > COUNTED, "{client:?} {server:?}");
    }
}
