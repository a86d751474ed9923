//! A device that answers requests, and a controller that asks it: two links of one engine, over one broker.
//!
//! The request carries where the response belongs and what it belongs to (v5 section 4.10, Request / Response).
//!
//! ```sh
//! cargo run -p fleetwire-engine --example server -- 127.0.0.1:1883 &
//! cargo run -p fleetwire-engine --example request_response -- 127.0.0.1 1883
//! ```

use std::error::Error;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use fleetwire_codec::{Carrier, PropertiesBuf, Property, QoS, TopicFilter, TopicName};
use fleetwire_engine::{
    At, Dial, DialError, Engine, Event, Handler, LinkId, Message, Outbox, Plan, Publish, Shard, Way,
};

const REQUESTS: &str = "devices/thermometer/requests";
const RESPONSES: &str = "controllers/desk/responses";
// The links' tokens.
const DEVICE: u64 = 0;
const CONTROLLER: u64 = 1;

struct Both {
    plan: Plan,
    /// Subscriptions that stand.
    subscribed: usize,
    controller: Option<LinkId>,
    answered: Sender<String>,
}

impl Both {
    /// The controller asks; the number 7 comes back with the response.
    fn ask(&self, controller: LinkId, out: &mut Outbox<'_>) -> Result<(), Box<dyn Error>> {
        let mut properties = PropertiesBuf::new(Carrier::Publish);
        properties.push(Property::ResponseTopic(TopicName::new(RESPONSES)?))?;
        properties.push(Property::CorrelationData(&7_u32.to_be_bytes()))?;
        let request = Publish::new(TopicName::new(REQUESTS)?, b"temperature?");
        out.publish(
            controller,
            request
                .qos(QoS::AtLeastOnce)
                .properties(properties.as_properties()),
        )?;
        Ok(())
    }

    /// The device answers where it was told to.
    fn answer(
        &self,
        device: LinkId,
        request: &Message<'_>,
        out: &mut Outbox<'_>,
    ) -> Result<(), Box<dyn Error>> {
        let topic = request
            .properties
            .response_topic()
            .ok_or("the request names no response topic")?;
        let mut properties = PropertiesBuf::new(Carrier::Publish);
        if let Some(data) = request.properties.correlation_data() {
            properties.push(Property::CorrelationData(data))?;
        }
        let response = Publish::new(topic, b"21.5");
        out.publish(
            device,
            response
                .qos(QoS::AtLeastOnce)
                .properties(properties.as_properties()),
        )?;
        Ok(())
    }
}

impl Handler for Both {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        for token in [DEVICE, CONTROLLER] {
            out.open(&self.plan, token)
                .expect("two links are within the limits");
        }
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        dial.client_id(if at.token == DEVICE { "thermometer" } else { "desk" });
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        let done = match (event, at.token) {
            (Event::Connected(_), token) => {
                let topic = if token == DEVICE { REQUESTS } else { RESPONSES };
                let filter = TopicFilter::new(topic).expect("it is a filter");
                if token == CONTROLLER {
                    self.controller = Some(at.link);
                }
                out.subscribe(at.link, &[(filter, QoS::AtLeastOnce)])
                    .map(|_| ())
                    .map_err(Into::into)
            }
            (Event::Subscribed(_), _) => {
                self.subscribed += 1;
                match self.controller {
                    Some(controller) if self.subscribed == 2 => self.ask(controller, out),
                    _ => Ok(()),
                }
            }
            (Event::Message(request), DEVICE) => self.answer(at.link, &request, out),
            (Event::Message(response), _) => {
                let number = response.properties.correlation_data().unwrap_or_default();
                let text = String::from_utf8_lossy(response.payload);
                self.answered
                    .send(format!("response to {number:?}: {text}"))
                    .map_err(Into::into)
            }
            (Event::Failed(failure), _) => Err(failure.text.into()),
            _ => Ok(()),
        };
        if let Err(error) = done {
            eprintln!("{error}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port] = arguments.as_slice() else {
        return Err("arguments: HOST PORT".into());
    };
    let mut way = Way::tcp(host, port.parse()?);
    way.resolve()?;
    let (answered, answer) = channel();
    let mut both = Some(Both {
        plan: Plan::new(way),
        subscribed: 0,
        controller: None,
        answered,
    });
    let engine = Engine::builder().start(|_| both.take().expect("there is one shard"))?;
    println!("{}", answer.recv_timeout(Duration::from_secs(10))?);
    engine.shutdown(Duration::from_secs(5));
    Ok(())
}
