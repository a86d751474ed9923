//! What the tests share.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use fleetwire_codec::{Properties, ReasonCode, TopicName, TopicNameBuf};
use fleetwire_engine::{
    At, Backoff, ChannelHandler, ConnectForm, Engine, EngineBuilder, EngineHandle, Event, Events, Handler,
    LinkId, Listener, Outbox, OwnedKind, Plan, Publish, Slug, Way,
};

pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A server that accepts everybody, echoes every publish to `echo/{topic}` of the same link, and refuses the client
/// id `stranger`.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) connects: u64,
    pub(crate) messages: u64,
    pub(crate) ended: BTreeMap<Slug, u64>,
}

impl Handler for Echo {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(connect) if connect.client_id == "stranger" => {
                out.refuse(at.link, ReasonCode::NotAuthorized);
            }
            Event::Connect(connect) => {
                self.connects += 1;
                out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs)
                    .unwrap();
            }
            Event::Subscribe(subscribe) => {
                let codes: Vec<u8> = subscribe.filters.iter().map(|_| 1).collect();
                out.suback(at.link, subscribe.packet_id, &codes).unwrap();
            }
            Event::Message(message) => {
                self.messages += 1;
                let topic = format!("echo/{}", message.topic.as_str());
                let publish = Publish::new(TopicName::new(&topic).unwrap(), message.payload).qos(message.qos);
                out.publish(at.link, publish).unwrap();
                if message.payload == b"kick" {
                    out.disconnect(at.link, ReasonCode::AdministrativeAction, Properties::EMPTY);
                }
            }
            Event::Disconnected(end) => *self.ended.entry(end.slug).or_default() += 1,
            _ => {}
        }
    }
}

pub(crate) fn echo_server() -> (Engine<Echo>, SocketAddr) {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Echo::default())
        .unwrap();
    (engine, address)
}

pub(crate) fn plan(address: SocketAddr) -> Plan {
    let mut way = Way::tcp(&address.ip().to_string(), address.port());
    way.resolve().unwrap();
    Plan::new(way).backoff(Backoff::new(Duration::from_millis(1), Duration::from_millis(5)))
}

/// The next event that `pick` wants.
pub(crate) fn wait_for<T>(events: &Events, mut pick: impl FnMut(At, &OwnedKind) -> Option<T>) -> T {
    loop {
        let event = events.next_timeout(WAIT).expect("an event within the time");
        if let Some(picked) = pick(event.at, &event.kind) {
            return picked;
        }
    }
}

pub(crate) fn connected(_: At, kind: &OwnedKind) -> Option<()> {
    matches!(kind, OwnedKind::Connected { .. }).then_some(())
}

pub(crate) fn topic(name: &str) -> TopicNameBuf {
    TopicName::new(name).unwrap().into()
}

pub(crate) fn channel_engine(builder: EngineBuilder, capacity: usize) -> (Engine<ChannelHandler>, Events) {
    builder.start_channel(capacity).unwrap()
}

/// A channel engine with a link that is up.
pub(crate) fn device_up(
    builder: EngineBuilder,
    capacity: usize,
    address: SocketAddr,
    token: u64,
    form: ConnectForm,
) -> (Engine<ChannelHandler>, Events, EngineHandle, LinkId) {
    let (engine, events) = channel_engine(builder, capacity);
    let handle = engine.handle();
    let link = handle.open_with(&plan(address), token, form).unwrap();
    wait_for(&events, connected);
    (engine, events, handle, link)
}

/// What the server says to a client that sends `bytes`, up to its end of the connection.
pub(crate) fn say_to_server(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The bytes of a CONNECT of 3.1.1 with that client id, keep-alive off.
pub(crate) fn connect_bytes(client_id: &str) -> Vec<u8> {
    let mut bytes = b"\x10\x00\x00\x04MQTT\x04\x02\x00\x00\x00".to_vec();
    bytes.push(client_id.len() as u8);
    bytes.extend_from_slice(client_id.as_bytes());
    bytes[1] = (bytes.len() - 2) as u8;
    bytes
}

pub(crate) fn connect_by_hand(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&connect_bytes(client_id)).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream
}
