//! A blocking client for the tests of the endpoint: it writes packets as it is told and hands back each one that comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{
    Connect, FiltersBuf, Packet, PacketId, Properties, Publish, QoS, Subscribe, SubscriptionOptions,
    TopicFilter, TopicName, Version,
};
use fleetwire_tls::{
    ClientConfigBuilder, Identity, Opened, Roots, Scratch, ServerName, Stage, TlsError, TlsSession, Versions,
};

use crate::pki::DeviceCertificate;

pub(super) struct Peer {
    stream: TcpStream,
    tls: Option<(TlsSession, Scratch)>,
    version: Version,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    /// close_notify has come.
    ended: bool,
}

/// What a client offers in its TLS handshake.
#[derive(Default)]
pub(super) struct Offer<'a> {
    pub(super) alpn: &'a [&'a str],
    pub(super) device: Option<&'a DeviceCertificate>,
    pub(super) versions: Versions,
}

impl Peer {
    pub(super) fn plain(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        // Only a test that fails waits so long.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self {
            stream,
            tls: None,
            version: Version::V5,
            sealed: Vec::new(),
            plain: Vec::new(),
            ended: false,
        }
    }

    /// Connects and shakes hands. TLS 1.3 calls that done before the server has judged the client's certificate: then
    /// the error comes with the first packet.
    pub(super) fn tls(addr: SocketAddr, ca_pem: &str, offer: &Offer<'_>) -> Result<Self, TlsError> {
        let config = ClientConfigBuilder::new()
            .roots(Roots::from_pem(ca_pem.as_bytes()).unwrap())
            .alpn(offer.alpn.iter().map(|name| name.as_bytes().to_vec()).collect())
            .versions(offer.versions)
            .build()
            .unwrap();
        let identity = offer
            .device
            .map(|device| Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes()).unwrap());
        let name = ServerName::parse("localhost").unwrap();
        let mut session = TlsSession::client(&config, &name, identity.as_ref()).unwrap();
        let mut hello = Vec::new();
        session.start(&mut hello).unwrap();
        let mut peer = Self::plain(addr);
        peer.tls = Some((session, Scratch::new()));
        peer.stream.write_all(&hello).unwrap();
        while !peer.is_established() {
            if !peer.read()? {
                peer.session().eof()?;
                unreachable!("the handshake is not done");
            }
        }
        Ok(peer)
    }

    pub(super) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = vec![0; packet.encoded_len(self.version).unwrap()];
        packet.encode(self.version, &mut bytes).unwrap();
        let Some((session, scratch)) = &mut self.tls else {
            return self.stream.write_all(&bytes).unwrap();
        };
        let framing = session.framing();
        for plain in bytes.chunks(framing.plain_max) {
            let mut block = vec![0; framing.head];
            block.extend_from_slice(plain);
            block.resize(block.len() + framing.tail, 0);
            let range = framing.head..framing.head + plain.len();
            let sealed = session.seal(scratch, &mut block, range).unwrap();
            self.stream.write_all(&block[sealed]).unwrap();
        }
    }

    /// Hands the next packet to `look`; `None` at the end of the stream.
    pub(super) fn next<R>(&mut self, look: impl FnOnce(&Packet<'_>) -> R) -> Result<Option<R>, TlsError> {
        loop {
            if let Split::Complete(frame) = frame::split(&self.plain, usize::MAX >> 8).unwrap() {
                let len = frame.len();
                let result = look(&Packet::decode(frame, self.version).unwrap());
                self.plain.drain(..len);
                return Ok(Some(result));
            }
            if self.ended || !self.read()? {
                return Ok(None);
            }
        }
    }

    /// The next packet as text; there must be one.
    pub(super) fn text(&mut self) -> String {
        self.next(|packet| format!("{packet:?}"))
            .unwrap()
            .expect("a packet, not the end")
    }

    /// Asserts that the stream has ended in good order.
    pub(super) fn ended(&mut self) {
        let rest = self.next(|packet| format!("{packet:?}")).unwrap();
        assert_eq!(rest, None);
        if let Some((session, _)) = &self.tls {
            session.eof().unwrap();
        }
    }

    /// Connects as `connect` says and returns the CONNACK's code.
    pub(super) fn connect(&mut self, connect: Connect<'_>) -> u8 {
        self.version = connect.version;
        self.send(&Packet::Connect(connect));
        let code = self.next(|packet| match packet {
            Packet::Connack(connack) => connack.code,
            other => panic!("{other:?} instead of CONNACK"),
        });
        code.unwrap().expect("CONNACK, not the end")
    }

    pub(super) fn subscribe(&mut self, filter: &str) {
        let mut filters = FiltersBuf::new();
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        filters.push(TopicFilter::new(filter).unwrap(), options).unwrap();
        let (packet_id, properties) = (PacketId::MIN, Properties::EMPTY);
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties,
            filters: filters.as_filters(),
        }));
        self.next(|packet| match packet {
            Packet::Suback(suback) => assert_eq!(suback.codes, [1]),
            other => panic!("{other:?} instead of SUBACK"),
        })
        .unwrap();
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    pub(super) fn publish(&mut self, topic: &str, payload: &[u8]) {
        let publish = Publish::new(TopicName::new(topic).unwrap(), payload);
        let packet_id = Some(PacketId::MIN);
        self.send(&Packet::Publish(Publish {
            qos: QoS::AtLeastOnce,
            packet_id,
            ..publish
        }));
        self.next(|packet| {
            assert!(
                matches!(packet, Packet::Puback(_)),
                "{packet:?} instead of PUBACK"
            )
        })
        .unwrap();
    }

    /// The payload of the next packet, which must be a PUBLISH; it is acknowledged.
    pub(super) fn payload(&mut self) -> Vec<u8> {
        let (payload, packet_id) = self
            .next(|packet| match packet {
                Packet::Publish(publish) => (publish.payload.to_vec(), publish.packet_id),
                other => panic!("{other:?} instead of PUBLISH"),
            })
            .unwrap()
            .expect("a PUBLISH, not the end");
        if let Some(packet_id) = packet_id {
            self.send(&Packet::Puback(fleetwire_codec::Puback::new(packet_id)));
        }
        payload
    }

    fn is_established(&self) -> bool {
        self.session().stage() == Stage::Established
    }

    fn session(&self) -> &TlsSession {
        &self.tls.as_ref().expect("it speaks TLS").0
    }

    /// Reads once and opens what came; `false` when that was nothing, at the end of the stream.
    fn read(&mut self) -> Result<bool, TlsError> {
        let mut block = [0; 16 * 1024];
        let len = match self.stream.read(&mut block) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing comes: {error}"),
        };
        let Some((session, scratch)) = &mut self.tls else {
            self.plain.extend_from_slice(&block[..len]);
            return Ok(len > 0);
        };
        self.sealed.extend_from_slice(&block[..len]);
        loop {
            let mut answer = Vec::new();
            let opened = session.open(scratch, &mut self.sealed, &mut answer);
            // Who has been refused cannot write any more, and need not.
            let _ = self.stream.write_all(&answer);
            let consumed = match opened? {
                Opened::NeedMore => return Ok(len > 0),
                Opened::Closed { .. } => {
                    self.ended = true;
                    return Ok(true);
                }
                Opened::Data { consumed, plain } => {
                    self.plain.extend_from_slice(&self.sealed[plain]);
                    consumed
                }
                Opened::Handshake { consumed }
                | Opened::Established { consumed }
                | Opened::Nothing { consumed } => consumed,
            };
            self.sealed.drain(..consumed);
        }
    }
}
