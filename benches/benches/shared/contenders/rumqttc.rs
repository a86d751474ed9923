//! rumqttc: a task for each device, all on one thread.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS, Transport};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::cpu::{Clock, Round, Spent};
use super::{Case, Job, next_round, pki, wire};

/// Requests that a client keeps for its task; one waits at a time.
const REQUESTS: usize = 8;

pub(super) fn hold(job: &Job) -> ! {
    let tls = pki::Devices::of(job);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there are descriptors");
    LocalSet::new().block_on(&runtime, run(job, tls.as_ref()))
}

/// What the tasks have seen.
#[derive(Default)]
struct Seen {
    connected: Cell<usize>,
    received: Cell<usize>,
    /// The count of either has changed.
    changed: Notify,
}

async fn run(job: &Job, tls: Option<&pki::Devices>) -> ! {
    let seen = Rc::new(Seen::default());
    let mut clients = Vec::new();
    let clock = Clock::read();
    while seen.connected.get() < job.connections {
        while clients.len() < job.connections && clients.len() - seen.connected.get() < wire::CONNECTING {
            clients.push(dial(job, tls, clients.len(), &seen));
        }
        seen.changed.notified().await;
    }
    let mut spent = clock.spent(job.connections as u64);
    loop {
        let round = next_round(job, &spent);
        spent = match job.case {
            Case::In => receive_all(round, &clients, &seen).await,
            _ => publish_all(round, &clients).await,
        };
    }
}

fn dial(job: &Job, tls: Option<&pki::Devices>, index: usize, seen: &Rc<Seen>) -> AsyncClient {
    let mut options = MqttOptions::new(wire::client_id(index), Ipv4Addr::LOCALHOST.to_string(), job.port);
    options.set_keep_alive(Duration::ZERO);
    if let Some(tls) = tls {
        options.set_transport(Transport::tls_with_config(tls.config(index).into()));
    }
    let (client, mut events) = AsyncClient::new(options, REQUESTS);
    let mut network = events.network_options();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    let seen = Rc::clone(seen);
    spawn_local(async move {
        loop {
            match events.poll().await.expect("the peer stays") {
                Event::Incoming(Incoming::ConnAck(_)) => seen.connected.set(seen.connected.get() + 1),
                Event::Incoming(Incoming::Publish(_)) => seen.received.set(seen.received.get() + 1),
                _ => continue,
            }
            seen.changed.notify_one();
        }
    });
    client
}

async fn publish_all(round: Round, clients: &[AsyncClient]) -> Spent {
    let mut sent = 0;
    loop {
        for _ in 0..wire::BURST {
            publish(&clients[sent % clients.len()]).await;
            sent += 1;
        }
        yield_now().await;
        if round.is_over(sent as u64) {
            return round.spent(sent as u64);
        }
    }
}

async fn receive_all(round: Round, clients: &[AsyncClient], seen: &Seen) -> Spent {
    let mut all = 0;
    while !round.is_over(all as u64) {
        publish(&clients[0]).await;
        while seen.received.get() < clients.len() {
            seen.changed.notified().await;
        }
        all += seen.received.take();
    }
    round.spent(all as u64)
}

async fn publish(client: &AsyncClient) {
    let published = client
        .publish(wire::TOPIC, QoS::AtMostOnce, false, wire::PAYLOAD)
        .await;
    published.expect("its task goes on");
}
