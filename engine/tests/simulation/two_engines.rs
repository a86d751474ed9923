//! Two engines, client and server role, with everything that can go wrong between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetwire_codec::QoS;
use fleetwire_codec::buffer::HOT_BLOCK_LEN;
use fleetwire_engine::sim::{Faults, Sim, SimEngine};
use fleetwire_engine::{Backoff, Engine, Limits, Plan, Way};

use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, RecordLayer, ServerConfig, ServerConfigBuilder,
    ServerName, Versions,
};

use super::devices::{Devices, Habits};
use super::ledger::{Ledger, Stream};
use super::seeds::{self, Tally};
use super::server::Server;

/// Without these a run would prove little.
const RARE: &[&str] = &[
    "Writable",
    "accept_failures",
    "acknowledgements late",
    "client_id_taken_over",
    "clock_jumps",
    "closed_before_connack",
    "command dropped",
    "connack_refused",
    "connack_timeout",
    "connect_errors",
    "connect_silences",
    "connection_lost",
    "device: abort",
    "device: disconnect",
    "device: pause",
    "dial_refused",
    "half_closes",
    "keep_alive_timeout",
    "link replaced",
    "publish: Full",
    "publish: TooLarge",
    "reads_without_memory",
    "reads_would_block",
    "resets",
    "received again",
    "resets_discarding",
    "server publish: Full",
    "server: answers later",
    "server: connect_timeout",
    "server: keep_alive_timeout",
    "server: overloaded",
    "server: pause",
    "shut down in bad weather",
    "session present",
    "short_reads",
    "short_writes",
    "silences",
    "slots missed",
    "stalls",
    "taken over",
    "tcp_refused",
    "tcp_timeout",
    "throttled",
    "windows_full",
    "writes_failed",
    "writes_would_block",
];

#[test]
fn two_engines() {
    seeds::run("two_engines", 300, RARE, |seed| scenario(seed, None));
}

/// The same under TLS, whose bytes no seed decides: a failure may not come again at once.
#[test]
fn two_engines_tls() {
    let rare = [
        "closed_before_connack",
        "closed_in_handshake",
        "connection_lost",
        "shut down in bad weather",
        "tls_timeout",
    ];
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let names = vec!["server.test".to_owned()];
    let cert = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let identity = Identity::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    seeds::run("two_engines_tls", 30, &rare, |seed| {
        scenario(seed, Some(&identity))
    });
}

fn chance(random: &mut fastrand::Rng, most: f64) -> f64 {
    if random.bool() {
        return 0.0;
    }
    // Evenly over the orders of magnitude: a fault now and then finds other things than a fault each time.
    most * 10f64.powf(-3.0 * random.f64())
}

pub(crate) fn faults(random: &mut fastrand::Rng) -> Faults {
    let millis = |random: &mut fastrand::Rng, most| Duration::from_millis(random.u64(0..=most));
    let mut faults = Faults::none();
    faults.delay = millis(random, 50);
    faults.jitter = millis(random, 200);
    faults.window = 1 << random.u32(8..17);
    faults.short_read = chance(random, 0.9);
    faults.short_write = chance(random, 0.9);
    faults.read_would_block = chance(random, 0.5);
    faults.write_would_block = chance(random, 0.5);
    faults.write_would_block_max = millis(random, 3000);
    faults.reset = chance(random, 0.05);
    faults.reset_discards = chance(random, 1.0);
    faults.half_close = chance(random, 0.05);
    faults.silence = chance(random, 0.05);
    faults.stall = chance(random, 0.05);
    faults.stall_max = millis(random, 20_000);
    faults.connect_error = chance(random, 0.2);
    faults.connect_refused = chance(random, 0.3);
    faults.connect_silence = chance(random, 0.2);
    faults.accept_failure = chance(random, 0.2);
    faults.slow_pass = chance(random, 0.1);
    faults.slow_pass_max = millis(random, 500);
    faults.clock_jump = chance(random, 0.01);
    faults.clock_jump_max = millis(random, 60_000);
    faults
}

pub(crate) fn limits(random: &mut fastrand::Rng) -> Limits {
    let some = |random: &mut fastrand::Rng, low: u32, high: u32| 1usize << random.u32(low..=high);
    Limits::default()
        .handshakes_max(random.usize(1..10))
        .output_bytes_max(some(random, 11, 18))
        .in_flight_max(random.u16(1..50))
        .buffer_bytes_max(Limits::BUFFER_BYTES_MIN + some(random, 0, 20))
        .retained_bytes_max(some(random, 10, 20))
        .ack_timeout(Duration::from_millis(random.u64(1..10_000)))
        .accept_timeout(Duration::from_millis(random.u64(500..10_000)))
        .pingresp_timeout(Duration::from_millis(random.u64(500..10_000)))
        .linger_timeout(Duration::from_millis(random.u64(10..3_000)))
        .commands_max(random.usize(1..50))
}

pub(crate) fn draw_habits(random: &mut fastrand::Rng) -> Habits {
    Habits {
        devices: random.u32(1..8),
        qos_max: [QoS::AtLeastOnce, QoS::ExactlyOnce][random.usize(0..2)],
        payload_max: 1 << random.u32(6..15),
        period: Duration::from_millis(random.u64(100..2000)),
        keep_alive: Duration::from_secs(random.u64(1..20)),
        mischief: chance(random, 0.3),
        keeps_sessions: random.bool(),
    }
}

pub(crate) fn draw_plan(random: &mut fastrand::Rng, tls: Option<ClientConfig>) -> Plan {
    let mut way = match tls {
        Some(config) => Way::tls(
            "10.0.0.1",
            1883,
            config,
            ServerName::parse("server.test").unwrap(),
        ),
        None => Way::tcp("10.0.0.1", 1883),
    };
    way.resolve().unwrap();
    Plan::new(way)
        .connect_timeout(Duration::from_millis(random.u64(500..10_000)))
        .backoff(Backoff::new(
            Duration::from_millis(random.u64(1..500)),
            Duration::from_millis(random.u64(500..5_000)),
        ))
}

/// Both sides' configurations, with keys that serve for a few records only.
fn tls(random: &mut fastrand::Rng, identity: &Identity) -> (ClientConfig, ServerConfig) {
    let versions = [Versions::Tls12, Versions::Tls13, Versions::Both][random.usize(0..3)];
    let layer = [RecordLayer::InPlace, RecordLayer::Rustls][random.usize(0..2)];
    let records = 1 << random.u32(3..20);
    let client = ClientConfigBuilder::new()
        .dangerous_no_server_verification()
        .alpn(vec![b"mqtt".to_vec()])
        .versions(versions)
        .record_layer(layer)
        .records_per_key_max(records);
    let server = ServerConfigBuilder::new(identity.clone())
        .alpn("mqtt", ClientAuth::None)
        .records_per_key_max(1 << random.u32(3..20));
    (client.build().unwrap(), server.build().unwrap())
}

fn scenario(seed: u64, identity: Option<&Identity>) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sim = Sim::new(random.u64(..));
    let habits = draw_habits(&mut random);
    let (up, down) = (Ledger::shared("up"), Ledger::shared("down"));
    for ledger in [&up, &down] {
        ledger.lock().unwrap().redelivers = habits.keeps_sessions;
    }
    let calm = Arc::new(AtomicBool::new(false));
    let address = "10.0.0.1:1883".parse().unwrap();
    let (client_tls, server_tls) = identity.map(|identity| tls(&mut random, identity)).unzip();
    let make = |seed| {
        Server::new(
            &habits,
            seed,
            (Arc::clone(&up), Arc::clone(&down)),
            Arc::clone(&calm),
        )
    };
    let builder = Engine::builder()
        .limits(limits(&mut random))
        .seed(random.u64(..))
        .listen(sim.listener(address), server_tls, 0);
    let server_seed = random.u64(..);
    let server = sim.start(builder, |_| make(server_seed)).unwrap();

    let plan = draw_plan(&mut random, client_tls);
    let builder = Engine::builder()
        .limits(limits(&mut random))
        .seed(random.u64(..))
        .connect_rate(if random.bool() { f64::INFINITY } else { 5.0 });
    let seed = random.u64(..);
    let devices = Devices::new(
        habits.clone(),
        plan,
        seed,
        (Arc::clone(&up), Arc::clone(&down)),
        Arc::clone(&calm),
    );
    let mut devices = Some(devices);
    let client = sim
        .start(builder, |_| devices.take().expect("there is one shard"))
        .unwrap();

    let mut tally = Tally::default();
    sim.set_faults(faults(&mut random));
    for _ in 0..random.u32(5..60) {
        sim.run_for(Duration::from_millis(random.u64(10..2000))).unwrap();
        command(&client, &mut random, &up, &mut tally);
    }

    // An engine may also be shut down while everything goes wrong; otherwise it heals, and has to come to rest.
    let heals = random.u8(0..3) > 0;
    if !heals {
        tally.hit("shut down in bad weather");
    } else {
        sim.set_faults(Faults::none());
        calm.store(true, Ordering::Relaxed);
    }
    for ledger in [&up, &down] {
        ledger.lock().unwrap().keep_nothing();
    }
    let at_rest = !heals
        || sim
            .run_until(Duration::from_secs(300), || {
                let devices = client.with_handler(0, |devices| devices.unrest().is_empty());
                let guests = server.with_handler(0, |server| {
                    server.unrest().is_empty() && server.guests() == habits.devices as usize
                });
                let pending = up.lock().unwrap().pending() + down.lock().unwrap().pending();
                devices == Some(true) && guests == Some(true) && pending == 0
            })
            .unwrap();
    if !at_rest {
        panic!(
            "no rest: {:?}; {:?}; {} and {} pending; {habits:?}",
            client.with_handler(0, |devices| devices.unrest()),
            server.with_handler(0, |server| server.unrest()),
            up.lock().unwrap().pending(),
            down.lock().unwrap().pending(),
        );
    }
    // What was offered at the last moment still counts.
    command(&client, &mut random, &up, &mut tally);
    let shut =
        |sim: &mut Sim, ended: &dyn Fn() -> bool| sim.run_until(Duration::from_secs(200), ended).unwrap();
    client.begin_shutdown(Duration::from_secs(5));
    assert!(shut(&mut sim, &|| client.has_ended()), "the client does not end");
    server.with_handler(0, Server::forget_sessions);
    server.begin_shutdown(Duration::from_secs(5));
    assert!(shut(&mut sim, &|| server.has_ended()), "the server does not end");
    // What was held up on its way arrives at last.
    sim.set_faults(Faults::none());
    sim.run_for(Duration::from_secs(60)).unwrap();

    for ledger in [&up, &down] {
        let ledger = ledger.lock().unwrap();
        ledger.assert_settled();
        tally.add("messages", ledger.received);
        tally.add("acknowledged", ledger.acked);
        tally.add("dropped", ledger.dropped);
        tally.add("received again", ledger.again);
    }
    assert_eq!(sim.sockets(), 0, "sockets are left");
    for stats in [client.stats(), server.stats()] {
        assert_eq!((stats.links, stats.links_up), (0, 0));
        assert_eq!(
            stats.buffer_bytes, HOT_BLOCK_LEN as u64,
            "buffers are lost: {stats:?}"
        );
        assert_eq!(stats.parked_bytes, 0);
    }
    client.with_handler(0, |devices| tally.merge(&devices.tally));
    server.with_handler(0, |server| tally.merge(&server.tally));
    for (what, count) in sim.reached().each().filter(|(_, count)| *count > 0) {
        tally.add(what, count);
    }
    tally
}

/// Commands of another thread, to links that may be there, not there any more, or full.
pub(crate) fn command(
    client: &SimEngine<Devices>,
    random: &mut fastrand::Rng,
    up: &super::ledger::Shared,
    tally: &mut Tally,
) {
    let handle = client.handle();
    let devices = client.with_handler(0, |devices| {
        devices
            .devices
            .iter()
            .map(|device| device.link)
            .collect::<Vec<_>>()
    });
    let devices = devices.unwrap_or_default();
    for _ in 0..random.usize(0..8) {
        let index = random.usize(0..devices.len());
        // A command's message is in order with other commands' alone, so it has a topic of its own.
        let stream = Stream {
            device: index as u32,
            topic: 9,
            qos: QoS::AtLeastOnce,
        };
        let mut ledger = up.lock().unwrap();
        let before = ledger.accepted;
        ledger.command(stream, random.usize(0..2000), |publish| {
            handle.publish(devices[index], publish).is_ok()
        });
        tally.hit(if ledger.accepted > before {
            "command taken"
        } else {
            "command not taken"
        });
    }
}
