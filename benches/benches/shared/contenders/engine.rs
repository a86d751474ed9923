//! The engine, one shard.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use fleetwire_codec::TopicName;
use fleetwire_engine::{
    At, Dial, DialError, Engine, Event, Handler, Limits, LinkId, Outbox, Plan, Publish, Shard, Way,
};
use fleetwire_tls::{ClientConfigBuilder, Identity, Roots, ServerName};

use super::cpu::{Clock, Round};
use super::{Case, Job, next_round, pki, wire};
use crate::bare_rustls;

pub(super) fn hold(job: &Job) -> ! {
    let host = Ipv4Addr::LOCALHOST.to_string();
    let (mut identities, mut way) = (Vec::new(), Way::tcp(&host, job.port));
    if let Some(folder) = job.pki() {
        let pki = pki::load(folder);
        let config = ClientConfigBuilder::new()
            .roots(Roots::from_pem(pki.ca_pem().as_bytes()).expect("it is a CA"))
            .alpn(vec![bare_rustls::ALPN.to_vec()])
            .build()
            .expect("the settings are sound");
        let name = ServerName::parse(wire::SERVER).expect("it is a name");
        way = Way::tls(&host, job.port, config, name);
        identities = (0..job.connections)
            .map(|index| {
                let device = pki::issue(&pki, index);
                Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes()).expect("they fit")
            })
            .collect();
    }
    way.resolve().expect("it is an address");
    let (shard, its_end) = channel();
    let mut devices = Some(Devices {
        job: job.clone(),
        plan: Plan::new(way),
        identities,
        topic: TopicName::new(wire::TOPIC).expect("it has no wildcards"),
        links: Vec::new(),
        up: 0,
        next: 0,
        unwritten: 0,
        received: 0,
        done: 0,
        clock: Clock::read(),
        round: None,
        _shard: shard,
    });
    let _engine = Engine::builder()
        .limits(Limits::default().handshakes_max(wire::CONNECTING))
        .start(|_| devices.take().expect("there is one shard"))
        .expect("it starts");
    // Its connections end with the process, as those of the others do: a DISCONNECT would be counted as a message.
    match its_end.recv() {
        Ok(never) => match never {},
        Err(_) => panic!("the shard has ended"),
    }
}

struct Devices {
    job: Job,
    plan: Plan,
    identities: Vec<Identity>,
    topic: TopicName<'static>,
    links: Vec<LinkId>,
    up: usize,
    /// Whose turn it is to publish.
    next: usize,
    /// Messages of this pass that are to be sent.
    unwritten: usize,
    /// Messages that were received since the last one of ours.
    received: usize,
    /// Messages of this round that were sent or received.
    done: usize,
    clock: Clock,
    /// `None` until all are connected.
    round: Option<Round>,
    /// Dropped with the shard.
    _shard: Sender<Infallible>,
}

impl Devices {
    fn connected(&mut self, now: Instant, out: &mut Outbox<'_>) {
        self.up += 1;
        if self.up < self.links.len() {
            return;
        }
        // Until it is told of a round the shard stands still: nothing is to be done, and nothing spent.
        self.round = Some(next_round(&self.job, &self.clock.spent(self.up as u64)));
        match self.job.case {
            Case::In => self.publish(0, out),
            // Always due: the shard looks at its sockets without waiting, and is back.
            _ => {
                let link = self.links[0];
                out.every(link, now, Duration::from_nanos(1))
                    .expect("it is there");
            }
        }
    }

    /// The next round begins, if this one has had its messages.
    fn count(&mut self, done: usize) {
        self.done += done;
        if let Some(round) = self.round.take_if(|round| round.is_over(self.done as u64)) {
            let spent = round.spent(std::mem::take(&mut self.done) as u64);
            self.round = Some(next_round(&self.job, &spent));
        }
    }

    fn publish(&self, index: usize, out: &mut Outbox<'_>) {
        let publish = Publish::new(self.topic, &wire::PAYLOAD);
        out.publish(self.links[index], publish).expect("there is room");
    }

    fn publish_burst(&mut self, out: &mut Outbox<'_>) {
        for _ in 0..wire::BURST {
            self.publish(self.next, out);
            self.next = (self.next + 1) % self.links.len();
        }
        self.unwritten += wire::BURST;
    }

    fn received(&mut self, out: &mut Outbox<'_>) {
        self.received += 1;
        if self.received == self.links.len() {
            let all = std::mem::take(&mut self.received);
            self.count(all);
            self.publish(0, out);
        }
    }
}

impl Handler for Devices {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        self.clock = Clock::read();
        for index in 0..self.job.connections {
            let link = out.open(&self.plan, index as u64).expect("they are few");
            self.links.push(link);
        }
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        let index = at.token as usize;
        dial.client_id(&wire::client_id(index)).keep_alive(Duration::ZERO);
        if let Some(identity) = self.identities.get(index) {
            dial.identity(identity);
        }
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => self.connected(at.now, out),
            Event::Due(_) => self.publish_burst(out),
            Event::Message(_) => self.received(out),
            other => panic!("{other:?}"),
        }
    }

    /// What was published in a pass has been written now.
    fn on_turn(&mut self, _: Instant, _: &mut Outbox<'_>) {
        let written = std::mem::take(&mut self.unwritten);
        if written > 0 {
            self.count(written);
        }
    }
}
