//! Two engines, client and server role, with everything that can go wrong between them.

use fleetwire_codec::QoS;
use fleetwire_engine::Engine;
use fleetwire_engine::sim::SimEngine;
use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, RecordLayer, ServerConfig, ServerConfigBuilder,
    Versions,
};

use super::devices::Devices;
use super::ledger::Stream;
use super::scene::{Scene, draw_plan, limits};
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
    "session expired",
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
    let identity = identity();
    seeds::run("two_engines_tls", 30, &rare, |seed| {
        scenario(seed, Some(&identity))
    });
}

/// A server's, with a certificate that nobody verifies.
pub(crate) fn identity() -> Identity {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let names = vec!["server.test".to_owned()];
    let cert = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Identity::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
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
    let (scene, mut sim) = Scene::new(&mut random);
    let address = "10.0.0.1:1883".parse().unwrap();
    let (client_tls, server_tls) = identity.map(|identity| tls(&mut random, identity)).unzip();
    let builder = Engine::builder()
        .limits(limits(&mut random))
        .seed(random.u64(..))
        .listen(sim.listener(address), server_tls, 0);
    let mut handler = Some(Server::new(&scene, random.u64(..)));
    let server = sim
        .start(builder, |_| handler.take().expect("there is one shard"))
        .unwrap();

    let plan = draw_plan(&mut random, client_tls);
    let builder = Engine::builder()
        .limits(limits(&mut random))
        .seed(random.u64(..))
        .connect_rate(if random.bool() { f64::INFINITY } else { 5.0 });
    let mut handler = Some(Devices::new(&scene, plan, random.u64(..)));
    let client = sim
        .start(builder, |_| handler.take().expect("there is one shard"))
        .unwrap();

    let mut tally = Tally::default();
    scene.storm(&mut sim, &mut random, |random| {
        command(&client, random, &scene.up, &mut tally)
    });
    let unrest = || {
        let mut unrest = client.with_handler(0, Devices::unrest).unwrap_or_default();
        unrest.extend(server.with_handler(0, Server::unrest).unwrap_or_default());
        unrest
    };
    if !scene.calm_down(&mut sim, &mut random, unrest) {
        tally.hit("shut down in bad weather");
    }
    // What was offered at the last moment still counts.
    command(&client, &mut random, &scene.up, &mut tally);
    scene.shut_down(&mut sim, &client);
    server.with_handler(0, Server::forget_sessions);
    scene.shut_down(&mut sim, &server);
    scene.settle(&mut sim, &[client.stats(), server.stats()], &mut tally);
    client.with_handler(0, |devices| tally.merge(&devices.tally));
    server.with_handler(0, |server| tally.merge(&server.tally));
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
