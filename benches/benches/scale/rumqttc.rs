//! rumqttc: a task for each device, all on one thread.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS, Transport};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::cpu::{Clock, Spent};
use crate::{Case, Job, pki, wire};

/// Requests that a client keeps for its task; one waits at a time.
const REQUESTS: usize = 8;

pub(crate) fn hold(job: &Job) -> Spent {
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

async fn run(job: &Job, tls: Option<&pki::Devices>) -> Spent {
    let seen = Rc::new(Seen::default());
    let mut clients = Vec::new();
    let clock = Clock::read();
    while seen.connected.get() < job.connections {
        while clients.len() < job.connections && clients.len() - seen.connected.get() < wire::CONNECTING {
            clients.push(dial(job, tls, clients.len(), &seen));
        }
        seen.changed.notified().await;
    }
    match job.case {
        Case::Connect => clock.spent(job.connections as u64),
        Case::Out => publish_all(job, &clients).await,
        Case::In => receive_all(job, &clients, &seen).await,
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

async fn publish_all(job: &Job, clients: &[AsyncClient]) -> Spent {
    let (clock, end) = (Clock::read(), Instant::now() + job.traffic);
    let mut sent = 0;
    loop {
        for _ in 0..wire::BURST {
            publish(&clients[sent % clients.len()]).await;
            sent += 1;
        }
        yield_now().await;
        if Instant::now() >= end {
            return clock.spent(sent as u64);
        }
    }
}

async fn receive_all(job: &Job, clients: &[AsyncClient], seen: &Seen) -> Spent {
    let (clock, end) = (Clock::read(), Instant::now() + job.traffic);
    let mut all = 0;
    while Instant::now() < end || all == 0 {
        publish(&clients[0]).await;
        while seen.received.get() < clients.len() {
            seen.changed.notified().await;
        }
        all += seen.received.take();
    }
    clock.spent(all as u64)
}

async fn publish(client: &AsyncClient) {
    let published = client
        .publish(wire::TOPIC, QoS::AtMostOnce, false, wire::PAYLOAD)
        .await;
    published.expect("its task goes on");
}
