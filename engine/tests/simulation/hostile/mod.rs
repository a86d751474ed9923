//! Peers that keep to no rule, and an application that does not either, in both roles: whatever they do, each publish
//! ends once, everybody else is served in time, and nothing is held in the end.

mod application;
mod rogue;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetwire_codec::{QoS, TopicName};
use fleetwire_engine::sim::{Faults, Sim, SimEngine};
use fleetwire_engine::{
    At, Backoff, ConnectForm, Engine, Event, Handler, Limits, Outbox, Plan, Publish, Shard, Slug,
};

use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, ServerConfig, ServerConfigBuilder,
};

use self::application::Application;
use self::rogue::Rogue;
use crate::scene::{assert_nothing_held, way_to_server};
use crate::seeds::{self, Tally};
use crate::two_engines;

const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: &str = "10.0.0.1:1883";
/// The one that keeps to the rules.
const WITNESS: &str = "witness";

#[test]
fn hostile_clients() {
    let rare = [
        "Acked",
        "Dropped",
        "Full",
        "Invalid",
        "Message",
        "NoSuchLink",
        "NotHeld",
        "Offline",
        "Refused",
        "Stale",
        "connect_timeout",
        "connection_lost",
        "disconnected_by_peer",
        "protocol_violation",
        "rogue: dribbles",
        "rogue: floods",
        "rogue: half-closes",
        "rogue: reads nothing",
        "witness: acknowledged",
    ];
    seeds::run("hostile_clients", 100, &rare, |seed| clients(seed, None));
}

/// Where the witness speaks TLS, and the others what they like.
#[test]
fn hostile_clients_tls() {
    let identity = two_engines::identity();
    let rare = ["closed_in_handshake", "tls_timeout", "witness: acknowledged"];
    seeds::run("hostile_clients_tls", 20, &rare, |seed| {
        clients(seed, Some(&identity))
    });
}

#[test]
fn hostile_servers() {
    let rare = [
        "Acked",
        "Dropped",
        "Full",
        "Message",
        "NoSuchLink",
        "Offline",
        "Refused",
        "closed_before_connack",
        "connack_refused",
        "connack_timeout",
        "session expired",
        "not_mqtt",
        "protocol_violation",
        "rogue: dribbles",
        "rogue: floods",
        "rogue: reads nothing",
    ];
    seeds::run("hostile_servers", 100, &rare, servers);
}

fn plan(tls: Option<ClientConfig>) -> Plan {
    Plan::new(way_to_server(tls))
        .connect_timeout(2 * SECOND)
        .backoff(Backoff::new(SECOND / 100, SECOND / 2))
}

fn limits(random: &mut fastrand::Rng) -> Limits {
    Limits::default()
        .handshakes_max(random.usize(0..20))
        .packet_len_max([200, 5000, 100_000, usize::MAX][random.usize(0..4)])
        .output_bytes_max(1 << random.u32(11..20))
        .in_flight_max(random.u16(0..50))
        .retained_bytes_max(1 << random.u32(10..20))
        .ack_timeout(SECOND / 2)
        .accept_timeout(2 * SECOND)
        .pingresp_timeout(2 * SECOND)
        .linger_timeout(SECOND)
}

fn tls(identity: &Identity) -> (ClientConfig, ServerConfig) {
    let client = ClientConfigBuilder::new()
        .dangerous_no_server_verification()
        .alpn(vec![b"mqtt".to_vec()]);
    let server = ServerConfigBuilder::new(identity.clone()).alpn("mqtt", ClientAuth::None);
    (client.build().unwrap(), server.build().unwrap())
}

/// Cut anywhere and slow, but nothing is lost: what goes wrong is the peers' doing.
fn weather(random: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::none();
    faults.delay = Duration::from_millis(random.u64(0..5));
    faults.window = 1 << random.u32(12..17);
    faults.short_read = [0.0, 0.3][random.usize(0..2)];
    faults.short_write = [0.0, 0.3][random.usize(0..2)];
    faults
}

fn clients(seed: u64, identity: Option<&Identity>) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sim = Sim::new(random.u64(..));
    let address = ADDRESS.parse().unwrap();
    let calm = Arc::new(AtomicBool::new(false));
    let (client_tls, server_tls) = identity.map(tls).unzip();
    let mut application = Some(Application::new(None, &mut random, &calm));
    let builder = Engine::builder()
        .limits(limits(&mut random).handshakes_max(100))
        .listen(sim.listener(address), server_tls, 0);
    let server = sim.start(builder, |_| application.take().unwrap()).unwrap();
    sim.set_faults(weather(&mut random));
    let mut witness = Some(Witness::new(plan(client_tls)));
    let witness = sim.start(Engine::builder(), |_| witness.take().unwrap()).unwrap();
    let is_up = || witness.with_handler(0, |witness| witness.up) == Some(true);
    assert!(sim.run_until(10 * SECOND, is_up).unwrap());
    let rogue = Rogue::new(Some(address), &mut random, &calm);
    let rogue = sim.join(rogue).unwrap();
    rogue.with(|_, io| io.wake_at(Some(io.now())));

    sim.run_for(random.u32(5..30) * SECOND).unwrap();
    calm.store(true, Ordering::Relaxed);
    let mut tally = Tally::default();
    // All rogues are gone; what the witness has sent is acknowledged.
    sim.run_for(10 * SECOND).unwrap();
    witness.with_handler(0, |witness| {
        assert!(
            witness.up && witness.acked > 0 && witness.pending <= 1,
            "{witness:?}"
        );
        assert!(witness.slowest < SECOND, "others cost it {:?}", witness.slowest);
        tally.add("witness: acknowledged", witness.acked);
    });
    shut_down(&mut sim, &witness);
    shut_down(&mut sim, &server);
    sim.run_for(10 * SECOND).unwrap();
    assert_eq!(sim.sockets(), 0, "sockets are left");
    assert_nothing_held(&server.stats());
    server.with_handler(0, |application| application.settle(&mut tally));
    rogue.with(|rogue, _| tally.merge(&rogue.tally));
    tally
}

fn servers(seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sim = Sim::new(random.u64(..));
    let calm = Arc::new(AtomicBool::new(false));
    let rogue = Rogue::new(None, &mut random, &calm);
    let rogue = sim.serve(ADDRESS.parse().unwrap(), rogue).unwrap();
    rogue.with(|_, io| io.wake_at(Some(io.now())));
    sim.set_faults(weather(&mut random));
    let mut application = Some(Application::new(Some(plan(None)), &mut random, &calm));
    let builder = Engine::builder().limits(limits(&mut random));
    let client = sim.start(builder, |_| application.take().unwrap()).unwrap();
    sim.run_for(random.u32(5..30) * SECOND).unwrap();
    calm.store(true, Ordering::Relaxed);
    shut_down(&mut sim, &client);
    sim.run_for(10 * SECOND).unwrap();
    assert_eq!(sim.sockets(), 0, "sockets are left");
    assert_nothing_held(&client.stats());
    let mut tally = Tally::default();
    client.with_handler(0, |application| application.settle(&mut tally));
    rogue.with(|rogue, _| tally.merge(&rogue.tally));
    tally
}

fn shut_down<H: Handler>(sim: &mut Sim, engine: &SimEngine<H>) {
    engine.begin_shutdown(SECOND);
    let ended = sim.run_until(20 * SECOND, || engine.has_ended()).unwrap();
    assert!(ended, "an engine does not end");
}

/// Publishes twice a second, and notes how long acknowledgements take.
#[derive(Debug)]
struct Witness {
    plan: Plan,
    up: bool,
    pending: u64,
    acked: u64,
    slowest: Duration,
}

impl Witness {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            up: false,
            pending: 0,
            acked: 0,
            slowest: Duration::ZERO,
        }
    }
}

impl Handler for Witness {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open_with(&self.plan, 0, ConnectForm::new(WITNESS)).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                self.up = true;
                out.every(at.link, at.now, SECOND / 2).unwrap();
            }
            Event::Due(_) => {
                let publish = Publish::new(TopicName::new("w").unwrap(), b"here").qos(QoS::AtLeastOnce);
                out.publish(at.link, publish).unwrap();
                self.pending += 1;
            }
            Event::Acked(ack) => {
                self.pending -= 1;
                self.acked += 1;
                let took = at.now.saturating_duration_since(ack.sent);
                self.slowest = self.slowest.max(took);
            }
            Event::Disconnected(end) if end.slug == Slug::CLOSED_BY_US => self.up = false,
            other => panic!("{other:?}"),
        }
    }
}
