//! The other ends: answers CONNECT, counts what follows, and sends a round of publishes when it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;

use fleetwire_codec::Version;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConnection;
use rustls::crypto::aws_lc_rs;

use super::{Case, Job, pki, wire};
use crate::bare_rustls;

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    version: Option<Version>,
}

/// Until all connections have come and gone; prints the port at the beginning, and in the end the bytes that came
/// behind the CONNECTs.
pub(crate) fn run(job: &Job) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = |folder| bare_rustls::server_config(&pki::load(folder), &provider, rustls::ALL_VERSIONS);
    let config = job.pki().map(config);
    // The backlog holds all that connect at a time.
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is free");
    println!("{}", listener.local_addr().expect("it is bound").port());
    let mut poll = Poll::new().expect("there are descriptors");
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)
        .expect("it is not registered yet");
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let (mut received, mut gone) = (0, 0);
    while connections.is_empty() || gone < connections.len() {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.expect("it can be polled"),
        }
        let mut round = false;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, config.as_ref(), &mut connections);
                continue;
            }
            let place = &mut connections[event.token().0];
            let Some(connection) = place else { continue };
            let (len, open) = connection.read(&mut buffer);
            received += len;
            round |= len > 0;
            if !open {
                *place = None;
                gone += 1;
            }
        }
        if round && job.case == Case::In {
            for connection in connections.iter_mut().flatten() {
                let publish = wire::publish(connection.version.expect("all are connected"));
                connection.send(&publish);
            }
        }
    }
    println!("{received}");
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    config: Option<&Arc<rustls::ServerConfig>>,
    connections: &mut Vec<Option<Connection>>,
) {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        };
        stream.set_nodelay(true).expect("it is TCP");
        poll.registry()
            .register(&mut stream, Token(connections.len()), Interest::READABLE)
            .expect("it is not registered yet");
        let tls = config.map(|config| {
            let connection = ServerConnection::new(Arc::clone(config));
            Box::new(connection.expect("the settings are sound"))
        });
        connections.push(Some(Connection {
            stream,
            tls,
            version: None,
        }));
    }
}

impl Connection {
    /// Reads all there is and answers CONNECT; how many bytes came behind it, and whether the other end is still there.
    fn read(&mut self, buffer: &mut [u8]) -> (u64, bool) {
        let mut received = 0;
        loop {
            let plain = match &mut self.tls {
                None => match self.stream.read(buffer) {
                    Ok(0) => return (received, false),
                    Ok(len) => len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return (received, true),
                    Err(_) => return (received, false),
                },
                Some(tls) => {
                    match tls.read_tls(&mut self.stream) {
                        Ok(0) => return (received, false),
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return (received, true),
                        Err(_) => return (received, false),
                    }
                    tls.process_new_packets().expect("it is TLS");
                    let len = match tls.reader().read(buffer) {
                        Ok(len) => len,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                        Err(error) => panic!("{error}"),
                    };
                    flush(tls, &mut self.stream);
                    len
                }
            };
            received += self.take(&buffer[..plain]);
        }
    }

    fn take(&mut self, plain: &[u8]) -> u64 {
        if self.version.is_some() || plain.is_empty() {
            return plain.len() as u64;
        }
        // A CONNECT of less than 128 bytes, in one piece; the level stands behind "MQTT" (v5 section 3.1.2.2).
        assert!(
            plain[0] == 0x10 && plain.len() >= 2 + usize::from(plain[1]),
            "{plain:?}"
        );
        let version = if plain[8] == 5 { Version::V5 } else { Version::V311 };
        self.version = Some(version);
        self.send(&wire::connack(version));
        (plain.len() - 2 - usize::from(plain[1])) as u64
    }

    fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => {
                // One message waits at most, so there is room.
                let written = self.stream.write(bytes).expect("the other end is there");
                assert_eq!(written, bytes.len());
            }
            Some(tls) => {
                tls.writer().write_all(bytes).expect("it is short");
                flush(tls, &mut self.stream);
            }
        }
    }
}

fn flush(tls: &mut ServerConnection, stream: &mut TcpStream) {
    while tls.wants_write() {
        tls.write_tls(stream).expect("there is room for a few records");
    }
}
