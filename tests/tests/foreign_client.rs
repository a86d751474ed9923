//! rumqttc, an MQTT client that is none of ours, against the endpoint: 3.1.1 and 5.0, over plain TCP and over mutual TLS
//! with ALPN.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fleetwire_endpoint::Endpoint;
use fleetwire_endpoint::pki::KeyType;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::{TlsConfiguration, Transport, v5};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// No test waits for less; none waits so long unless it fails.
const WAIT: Duration = Duration::from_secs(20);

const CERTIFICATE: &str = "x-amzn-mqtt-ca";

// --- One face for rumqttc's two clients --------------------------------------------------------------------------------

/// What a client is told, as far as the tests ask.
#[derive(Debug, PartialEq, Eq)]
enum Happened {
    Connected,
    Granted(Vec<u8>),
    Acknowledged,
    Message(Message),
    Else,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    dup: bool,
    properties: Option<PublishProperties>,
}

struct Options {
    id: &'static str,
    address: SocketAddr,
    transport: Transport,
    login: Option<(&'static str, &'static str)>,
    will: Option<(&'static str, &'static str)>,
}

trait Foreign: Sized {
    fn new(options: Options) -> Self;
    /// The next event; the text of the error that ended the connection.
    async fn happens(&mut self) -> Result<Happened, String>;
    fn subscribe(&self, filter: &str, qos: u8);
    fn publish(&self, topic: &str, qos: u8, retain: bool, payload: Vec<u8>);

    /// What `pick` makes of the first event that it wants.
    async fn next<T>(&mut self, mut pick: impl FnMut(Happened) -> Option<T>) -> T {
        loop {
            let happened = within(self.happens()).await.expect("the connection lasts");
            if let Some(picked) = pick(happened) {
                return picked;
            }
        }
    }

    async fn connected(options: Options) -> Self {
        let mut client = Self::new(options);
        client
            .next(|happened| (happened == Happened::Connected).then_some(()))
            .await;
        client
    }

    async fn granted(&mut self, filter: &str, qos: u8) -> Vec<u8> {
        self.subscribe(filter, qos);
        self.next(|happened| match happened {
            Happened::Granted(codes) => Some(codes),
            _ => None,
        })
        .await
    }

    async fn message(&mut self) -> Message {
        self.next(|happened| match happened {
            Happened::Message(message) => Some(message),
            _ => None,
        })
        .await
    }

    async fn acknowledged(&mut self) {
        self.next(|happened| (happened == Happened::Acknowledged).then_some(()))
            .await;
    }
}

/// 3.1.1.
struct Old(rumqttc::AsyncClient, rumqttc::EventLoop);

impl Foreign for Old {
    fn new(options: Options) -> Self {
        let mut settings = rumqttc::MqttOptions::new(options.id, "127.0.0.1", options.address.port());
        settings
            .set_transport(options.transport)
            .set_max_packet_size(LARGE, LARGE);
        if let Some((name, password)) = options.login {
            settings.set_credentials(name, password);
        }
        if let Some((topic, text)) = options.will {
            settings.set_last_will(rumqttc::LastWill::new(
                topic,
                text,
                rumqttc::QoS::AtLeastOnce,
                false,
            ));
        }
        let (client, events) = rumqttc::AsyncClient::new(settings, COMMANDS);
        Self(client, events)
    }

    async fn happens(&mut self) -> Result<Happened, String> {
        use rumqttc::{Event, Packet, SubscribeReasonCode};
        let event = self.1.poll().await.map_err(|error| format!("{error:?}"))?;
        Ok(match event {
            Event::Incoming(Packet::ConnAck(_)) => Happened::Connected,
            Event::Incoming(Packet::PubAck(_)) => Happened::Acknowledged,
            Event::Incoming(Packet::SubAck(suback)) => Happened::Granted(
                suback
                    .return_codes
                    .iter()
                    .map(|code| match code {
                        SubscribeReasonCode::Success(qos) => *qos as u8,
                        SubscribeReasonCode::Failure => 0x80,
                    })
                    .collect(),
            ),
            Event::Incoming(Packet::Publish(publish)) => Happened::Message(Message {
                topic: publish.topic,
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                properties: None,
            }),
            _ => Happened::Else,
        })
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        let qos = rumqttc::qos(qos).unwrap();
        self.0.try_subscribe(filter, qos).unwrap();
    }

    fn publish(&self, topic: &str, qos: u8, retain: bool, payload: Vec<u8>) {
        let qos = rumqttc::qos(qos).unwrap();
        self.0.try_publish(topic, qos, retain, payload).unwrap();
    }
}

/// 5.0.
struct New(v5::AsyncClient, v5::EventLoop);

impl Foreign for New {
    fn new(options: Options) -> Self {
        let mut settings = v5::MqttOptions::new(options.id, "127.0.0.1", options.address.port());
        settings.set_transport(options.transport);
        settings.set_max_packet_size(Some(LARGE as u32));
        if let Some((name, password)) = options.login {
            settings.set_credentials(name, password);
        }
        if let Some((topic, text)) = options.will {
            let qos = v5::mqttbytes::QoS::AtLeastOnce;
            settings.set_last_will(v5::mqttbytes::v5::LastWill::new(topic, text, qos, false, None));
        }
        let (client, events) = v5::AsyncClient::new(settings, COMMANDS);
        Self(client, events)
    }

    async fn happens(&mut self) -> Result<Happened, String> {
        use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
        let event = self.1.poll().await.map_err(|error| format!("{error:?}"))?;
        Ok(match event {
            v5::Event::Incoming(Packet::ConnAck(_)) => Happened::Connected,
            v5::Event::Incoming(Packet::PubAck(_)) => Happened::Acknowledged,
            v5::Event::Incoming(Packet::SubAck(suback)) => Happened::Granted(
                suback
                    .return_codes
                    .iter()
                    .map(|code| match code {
                        SubscribeReasonCode::Success(qos) => *qos as u8,
                        _ => 0x80,
                    })
                    .collect(),
            ),
            v5::Event::Incoming(Packet::Publish(publish)) => Happened::Message(Message {
                topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                properties: publish.properties,
            }),
            _ => Happened::Else,
        })
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        let qos = v5::mqttbytes::qos(qos).unwrap();
        self.0.try_subscribe(filter, qos).unwrap();
    }

    fn publish(&self, topic: &str, qos: u8, retain: bool, payload: Vec<u8>) {
        let qos = v5::mqttbytes::qos(qos).unwrap();
        self.0.try_publish(topic, qos, retain, payload).unwrap();
    }
}

/// Commands that wait for rumqttc, and packets that it takes.
const COMMANDS: usize = 1_000;
const LARGE: usize = 256 * 1024;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future).await.expect("within the time")
}

// --- Ways to the endpoint ----------------------------------------------------------------------------------------------

fn endpoint() -> Endpoint {
    Endpoint::builder()
        .plain((Ipv4Addr::LOCALHOST, 0).into())
        .user("ada", "secret")
        .start()
        .unwrap()
}

/// rumqttc's TLS is rustls too; its configuration is made here so that it needs no process-wide provider.
fn tls(endpoint: &Endpoint, alpn: &[&str], client_id: Option<&str>) -> Transport {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(endpoint.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client_id {
        None => builder.with_no_client_auth(),
        Some(client_id) => {
            let device = endpoint.issue_device(client_id, KeyType::P256, None).unwrap();
            let key = PrivateKeyDer::from(device.key_der);
            builder.with_client_auth_cert(vec![device.cert_der], key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config)))
}

fn over_tls(endpoint: &Endpoint, id: &'static str) -> Options {
    Options {
        id,
        address: endpoint.addr(),
        transport: tls(endpoint, &[CERTIFICATE], Some(id)),
        login: None,
        will: None,
    }
}

fn over_tcp(endpoint: &Endpoint, id: &'static str) -> Options {
    Options {
        id,
        address: endpoint.plain_addr().unwrap(),
        transport: Transport::tcp(),
        login: Some(("ada", "secret")),
        will: None,
    }
}

// --- Tests ---------------------------------------------------------------------------------------------------------------

/// 300 messages at both QoS, up to several TLS records long; every byte and the order.
async fn exchange<P: Foreign, S: Foreign>(
    endpoint: &Endpoint,
    options: fn(&Endpoint, &'static str) -> Options,
) {
    const MESSAGES: usize = 300;
    let mut to = S::connected(options(endpoint, "to")).await;
    assert_eq!(to.granted("fleet/+/telemetry", 2).await, [1]);
    let mut from = P::connected(options(endpoint, "from")).await;
    let payload = |index: usize| {
        let byte = (index % 251) as u8;
        vec![byte; index * index % 50_000]
    };
    for index in 0..MESSAGES {
        from.publish("fleet/7/telemetry", (index % 2) as u8, false, payload(index));
    }
    let acknowledged = async {
        for _ in 0..MESSAGES / 2 {
            from.acknowledged().await;
        }
    };
    let received = async {
        for index in 0..MESSAGES {
            let message = to.message().await;
            assert!(message.payload == payload(index), "message {index}");
            assert_eq!(
                (message.topic.as_str(), message.qos, message.retain, message.dup),
                ("fleet/7/telemetry", (index % 2) as u8, false, false)
            );
        }
    };
    tokio::join!(acknowledged, received);
}

#[test]
fn v3_1_1_over_tcp() {
    run(exchange::<Old, Old>(&endpoint(), over_tcp));
}

#[test]
fn v5_over_tcp() {
    run(exchange::<New, New>(&endpoint(), over_tcp));
}

#[test]
fn v3_1_1_over_mutual_tls_with_alpn() {
    let endpoint = endpoint();
    run(exchange::<Old, Old>(&endpoint, over_tls));
    assert_eq!(endpoint.shutdown(WAIT).client_certificates, 2);
}

#[test]
fn v5_over_mutual_tls_with_alpn() {
    let endpoint = endpoint();
    run(exchange::<New, New>(&endpoint, over_tls));
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.client_certificates, 2);
    assert_eq!(
        counts.connects_by_alpn.into_iter().collect::<Vec<_>>(),
        [(CERTIFICATE, 2)]
    );
    assert_eq!(
        (counts.broker.published_in, counts.broker.delivered_out),
        (300, 300)
    );
}

#[test]
fn the_versions_understand_each_other() {
    let endpoint = endpoint();
    run(exchange::<Old, New>(&endpoint, over_tls));
    run(exchange::<New, Old>(&endpoint, over_tcp));
}

#[test]
fn properties_arrive_as_they_were_sent() {
    let endpoint = endpoint();
    run(async {
        let mut to = New::connected(over_tls(&endpoint, "to")).await;
        to.granted("t", 1).await;
        let from = New::connected(over_tls(&endpoint, "from")).await;
        let pairs = [("b", "1"), ("a", "2"), ("b", "ümläut"), ("", "")];
        let pairs = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            response_topic: Some("answers".to_owned()),
            user_properties: pairs,
            content_type: Some("text/plain".to_owned()),
            correlation_data: Some(vec![0, 0xff].into()),
            ..Default::default()
        };
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        from.0
            .try_publish_with_properties("t", qos, false, "x", properties.clone())
            .unwrap();
        let (mut from, received) = (from, to.message());
        let (message, ()) = tokio::join!(received, from.acknowledged());
        assert_eq!(message.properties, Some(properties));
    });
}

async fn leaves_a_will<C: Foreign>(endpoint: &Endpoint) {
    let mut watcher = C::connected(over_tls(endpoint, "watcher")).await;
    watcher.granted("will/#", 1).await;
    let will = Some(("will/mortal", "gone"));
    let mortal = C::connected(Options {
        will,
        ..over_tls(endpoint, "mortal")
    })
    .await;
    drop(mortal);
    let message = watcher.message().await;
    assert_eq!(
        (
            message.topic.as_str(),
            &message.payload[..],
            message.qos,
            message.retain
        ),
        ("will/mortal", &b"gone"[..], 1, false)
    );
}

#[test]
fn the_will_of_a_client_that_vanishes_is_published() {
    let endpoint = endpoint();
    run(leaves_a_will::<Old>(&endpoint));
    run(leaves_a_will::<New>(&endpoint));
}

async fn keeps<C: Foreign>(endpoint: &Endpoint, topic: &str) {
    let mut from = C::connected(over_tcp(endpoint, "from")).await;
    from.publish(topic, 1, true, b"kept".to_vec());
    from.acknowledged().await;
    let mut late = C::connected(over_tls(endpoint, "late")).await;
    late.granted(topic, 1).await;
    let message = late.message().await;
    assert_eq!((&message.payload[..], message.retain), (&b"kept"[..], true));
}

#[test]
fn retained_messages_wait_for_those_who_come_later() {
    let endpoint = endpoint();
    run(keeps::<Old>(&endpoint, "kept/3"));
    run(keeps::<New>(&endpoint, "kept/5"));
}

/// The text of the error with which the first connection fails.
fn refused<C: Foreign>(options: Options) -> String {
    run(async {
        let mut client = C::new(options);
        within(client.happens()).await.expect_err("it is refused")
    })
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let endpoint = endpoint();
    let offer = |alpn: &[&str], login| Options {
        transport: tls(&endpoint, alpn, None),
        login,
        ..over_tls(&endpoint, "stranger")
    };
    let wrong = Some(("ada", "wrong"));
    for error in [
        refused::<Old>(offer(&["mqtt"], wrong)),
        refused::<New>(offer(&["mqtt"], wrong)),
    ] {
        assert!(error.contains("BadUserNamePassword"), "{error}");
    }
    let error = refused::<Old>(offer(&["h2"], None));
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    let error = refused::<New>(offer(&[CERTIFICATE], None));
    assert!(error.contains("CertificateRequired"), "{error}");

    // And with the right password it is in.
    run(New::connected(offer(&["mqtt"], Some(("ada", "secret")))));
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(
        counts.tls_failures.into_iter().collect::<Vec<_>>(),
        [("alpn_refused", 1), ("client_cert_required", 1)]
    );
    assert_eq!((counts.refused, counts.connects_by_alpn["mqtt"]), (2, 1));
}
