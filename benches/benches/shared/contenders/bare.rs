//! The bare loop: mio and, for TLS, rustls's buffered connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fleetwire_codec::Version;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConnection;

use super::cpu::{Clock, Round, Spent};
use super::{Case, Job, next_round, pki, wire};

struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    dialled: bool,
    up: bool,
}

struct Loop {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    up: usize,
    buffer: Vec<u8>,
    /// Messages received.
    received: usize,
}

pub(super) fn hold(job: &Job) -> ! {
    let tls = pki::Devices::of(job);
    let mut bare = Loop {
        poll: Poll::new().expect("there are descriptors"),
        events: Events::with_capacity(1024),
        connections: Vec::new(),
        up: 0,
        buffer: vec![0; 64 * 1024],
        received: 0,
    };
    let clock = Clock::read();
    bare.connect(job, tls.as_ref());
    let mut spent = clock.spent(job.connections as u64);
    loop {
        let round = next_round(job, &spent);
        spent = match job.case {
            Case::In => bare.receive(round),
            _ => bare.publish(round),
        };
    }
}

impl Loop {
    fn connect(&mut self, job: &Job, tls: Option<&pki::Devices>) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, job.port));
        while self.up < job.connections {
            while self.connections.len() < job.connections
                && self.connections.len() - self.up < wire::CONNECTING
            {
                self.dial(address, tls);
            }
            self.turn(None);
        }
    }

    fn dial(&mut self, address: SocketAddr, tls: Option<&pki::Devices>) {
        let index = self.connections.len();
        let mut stream = TcpStream::connect(address).expect("there are ports");
        stream.set_nodelay(true).expect("it is TCP");
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
            .expect("it is not registered yet");
        let tls = tls.map(|tls| {
            let name = wire::SERVER.try_into().expect("it is a name");
            let connection = ClientConnection::new(Arc::new(tls.config(index)), name);
            Box::new(connection.expect("the settings are sound"))
        });
        self.connections.push(Connection {
            stream,
            tls,
            dialled: false,
            up: false,
        });
    }

    fn turn(&mut self, timeout: Option<Duration>) {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            polled => polled.expect("it can be polled"),
        }
        for event in &self.events {
            let index = event.token().0;
            let connection = &mut self.connections[index];
            if !connection.dialled {
                if !event.is_writable() {
                    continue;
                }
                connection.finish_dialling(index);
            }
            if event.is_readable() && connection.read(&mut self.buffer, index) {
                if std::mem::replace(&mut connection.up, true) {
                    self.received += 1;
                } else {
                    self.up += 1;
                }
            }
        }
    }

    fn publish(&mut self, round: Round) -> Spent {
        let publish = wire::publish(Version::V5);
        let mut sent = 0;
        loop {
            for _ in 0..wire::BURST {
                let index = sent % self.connections.len();
                self.connections[index].send(&publish);
                sent += 1;
            }
            self.turn(Some(Duration::ZERO));
            if round.is_over(sent as u64) {
                return round.spent(sent as u64);
            }
        }
    }

    fn receive(&mut self, round: Round) -> Spent {
        let publish = wire::publish(Version::V5);
        let mut all = 0;
        while !round.is_over(all as u64) {
            self.connections[0].send(&publish);
            while self.received < self.connections.len() {
                self.turn(None);
            }
            all += std::mem::take(&mut self.received);
        }
        round.spent(all as u64)
    }
}

impl Connection {
    /// The connection is there, or has failed; sends what comes first.
    fn finish_dialling(&mut self, index: usize) {
        if let Some(error) = self.stream.take_error().expect("it is a socket") {
            panic!("{error}");
        }
        self.dialled = true;
        if self.tls.is_some() {
            self.flush();
        } else {
            self.send(&wire::connect(Version::V5, index));
        }
    }

    /// Reads once; whether application data came.
    fn read(&mut self, buffer: &mut [u8], index: usize) -> bool {
        let Some(tls) = &mut self.tls else {
            return match self.stream.read(buffer) {
                Ok(0) => panic!("the peer is gone"),
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(error) => panic!("{error}"),
            };
        };
        let handshaking = tls.is_handshaking();
        match tls.read_tls(&mut self.stream) {
            Ok(0) => panic!("the peer is gone"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error}"),
        }
        let state = tls.process_new_packets().expect("it is TLS");
        let data = state.plaintext_bytes_to_read() > 0;
        if data {
            let len = tls.reader().read(buffer).expect("there is some");
            assert_eq!(len, state.plaintext_bytes_to_read());
        }
        if handshaking && !tls.is_handshaking() {
            let connect = wire::connect(Version::V5, index);
            tls.writer().write_all(&connect).expect("it is short");
        }
        self.flush();
        data
    }

    fn send(&mut self, bytes: &[u8]) {
        let Some(tls) = &mut self.tls else {
            loop {
                match self.stream.write(bytes) {
                    Ok(len) => return assert_eq!(len, bytes.len()),
                    // The peer is behind; the engine would keep the message and write it later.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tls.writer().write_all(bytes).expect("it is short");
        self.flush();
    }

    fn flush(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        while tls.wants_write() {
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
