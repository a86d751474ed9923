//! A program with an event loop of its own, and the engine within it: sensors send datagrams over UDP, and each becomes a
//! message at QoS 1. An empty datagram ends it. There is no thread but the one that is there anyway.
//!
//! The engine's descriptor is one of two in the program's poll, and the engine's next deadline is its time-out.
//!
//! ```sh
//! cargo run -p fleetwire-engine --example server -- 127.0.0.1:1883 &
//! cargo run -p fleetwire-engine --example own_loop -- 127.0.0.1 1883 127.0.0.1:5000 sensors &
//! echo 21.5 > /dev/udp/127.0.0.1/5000
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use fleetwire_codec::{QoS, TopicName};
use fleetwire_engine::{At, ConnectForm, Engine, Event, Handler, LinkId, Outbox, Plan, Publish, Turn, Way};
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const SENSORS: Token = Token(0);
const ENGINE: Token = Token(1);
/// Datagrams that wait for the broker; beyond it the oldest is dropped, as UDP would.
const WAITING_MAX: usize = 1000;

struct Gateway {
    topic: String,
    waiting: VecDeque<Vec<u8>>,
    /// The link may take more.
    takes: bool,
}

impl Gateway {
    fn add(&mut self, datagram: &[u8]) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(datagram.to_vec());
    }

    fn pass_on(&mut self, link: LinkId, out: &mut Outbox<'_>) {
        while self.takes
            && let Some(datagram) = self.waiting.front()
            && let Ok(topic) = TopicName::new(&self.topic)
        {
            let publish = Publish::new(topic, datagram).qos(QoS::AtLeastOnce);
            match out.publish(link, publish) {
                Ok(_) => drop(self.waiting.pop_front()),
                Err(_full_or_offline) => self.takes = false,
            }
        }
    }
}

impl Handler for Gateway {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) | Event::Writable => {
                self.takes = true;
                self.pass_on(at.link, out);
            }
            Event::Failed(failure) => eprintln!("cannot connect: {}: {}", failure.slug, failure.text),
            Event::Disconnected(end) => eprintln!("disconnected: {}: {}", end.slug, end.text),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, address, topic] = arguments.as_slice() else {
        return Err("arguments: HOST PORT UDP_ADDRESS TOPIC".into());
    };
    TopicName::new(topic)?;
    let mut way = Way::tcp(host, port.parse()?);
    way.resolve()?;
    let gateway = Gateway {
        topic: topic.clone(),
        waiting: VecDeque::new(),
        takes: false,
    };
    let mut gateway = Some(gateway);
    let mut engine = Engine::builder().start_local(|_| gateway.take().expect("there is one shard"))?;
    let link = engine
        .with(|_, out| out.open_with(&Plan::new(way), 0, ConnectForm::new("gateway")))
        .ok_or("the engine has ended")??;

    let mut poll = Poll::new()?;
    let mut sensors = UdpSocket::bind(address.parse()?)?;
    println!("listening on {}", sensors.local_addr()?);
    poll.registry()
        .register(&mut sensors, SENSORS, Interest::READABLE)?;
    let descriptor = engine.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&descriptor), ENGINE, Interest::READABLE)?;
    let mut events = Events::with_capacity(2);
    let mut datagram = vec![0; 65_536];
    loop {
        let due_in = engine
            .next_deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        poll.poll(&mut events, due_in)?;
        // Until it would block: mio's polls are edge-triggered.
        loop {
            match sensors.recv(&mut datagram) {
                Ok(0) => engine.begin_shutdown(Duration::from_secs(5)),
                Ok(len) => {
                    let received = &datagram[..len];
                    engine.with(|gateway, out| {
                        gateway.add(received);
                        gateway.pass_on(link, out);
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        // Whatever has ended the wait: a turn without anything to do costs a system call.
        if engine.turn(Some(Duration::ZERO))? == Turn::Ended {
            return Ok(());
        }
    }
}
