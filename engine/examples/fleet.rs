//! A fleet over mutual TLS, one identity for each device, one message a second each.
//!
//! ```sh
//! fleetwire endpoint --listen 127.0.0.1:8883 --state state/ &
//! fleetwire certs issue --state state/ --count 100 --out certs/
//! cargo run --release -p fleetwire-engine --example fleet -- 127.0.0.1 8883 state/ca.crt certs/ 100
//! ```

use std::error::Error;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use fleetwire_codec::{QoS, TopicNameBuf};
use fleetwire_engine::{At, Dial, DialError, Engine, Event, Handler, Outbox, Plan, Publish, Shard, Way};
use fleetwire_tls::{ClientConfigBuilder, Identity, Roots, ServerName};

struct Fleet {
    plan: Plan,
    identities: Vec<Identity>,
}

impl Handler for Fleet {
    fn on_start(&mut self, shard: Shard, out: &mut Outbox<'_>) {
        for index in shard.share_of(self.identities.len()) {
            out.open(&self.plan, index as u64)
                .expect("the links are within the limits");
        }
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        let index = at.token as usize;
        dial.client_id(&client_id(index))
            .identity(&self.identities[index]);
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        let device = client_id(at.token as usize);
        match event {
            Event::Connected(_) => {
                out.every(at.link, at.now, Duration::from_secs(1))
                    .expect("it is there");
            }
            Event::Due(due) => {
                let topic = TopicNameBuf::new(format!("devices/{device}")).expect("it has no wildcards");
                let publish = Publish::new(topic.as_topic_name(), b"21.5").qos(QoS::AtLeastOnce);
                if let Err(error) = out.publish(at.link, publish.intended(due.intended)) {
                    eprintln!("{device}: not published: {error}");
                }
            }
            Event::Failed(failure) => eprintln!("{device}: {}: {}", failure.slug, failure.text),
            Event::Disconnected(end) => eprintln!("{device}: {}: {}", end.slug, end.text),
            _ => {}
        }
    }
}

fn client_id(index: usize) -> String {
    format!("device-{index:04}")
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, ca, folder, count] = arguments.as_slice() else {
        return Err("arguments: HOST PORT CA FOLDER COUNT".into());
    };
    let tls = ClientConfigBuilder::new()
        .roots(Roots::from_file(Path::new(ca))?)
        .alpn(vec![b"x-amzn-mqtt-ca".to_vec()])
        .build()?;
    let mut way = Way::tls(host, port.parse()?, tls, ServerName::parse(host)?);
    way.resolve()?;
    let plan = Plan::new(way);
    let mut identities = Vec::new();
    for index in 0..count.parse()? {
        let file = |ending| Path::new(folder).join(format!("{}.{ending}", client_id(index)));
        identities.push(Identity::from_files(&file("crt"), &file("key"))?);
    }
    let engine = Engine::builder().connect_rate(500.0).start(|_| Fleet {
        plan: plan.clone(),
        identities: identities.clone(),
    })?;
    sleep(Duration::from_secs(10));
    println!("{:?}", engine.shutdown(Duration::from_secs(5)).stats);
    Ok(())
}
