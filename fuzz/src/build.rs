//! Builds the parts of packets as an application does, from choices of the fuzzer.

use fleetwire_codec::{
    Carrier, DecodeError, FiltersBuf, PacketId, Properties, PropertiesBuf, Property, QoS, ReasonCode,
    RetainHandling, SubscriptionOptions, TopicFilter, TopicName, UnsubscribeFiltersBuf,
};

use super::input::Input;
use super::naive;

pub(super) fn packet_id(input: &mut Input<'_>) -> PacketId {
    PacketId::new(input.u16()).unwrap_or(PacketId::MAX)
}

pub(super) fn qos(input: &mut Input<'_>) -> QoS {
    input.one_of(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

pub(super) fn reason(input: &mut Input<'_>) -> ReasonCode {
    ReasonCode::new(input.byte()).unwrap_or(ReasonCode::Success)
}

/// A topic name, or what stands in its place where an alias does.
pub(super) fn topic<'a>(input: &mut Input<'a>) -> TopicName<'a> {
    TopicName::new(input.text()).unwrap_or(TopicName::ALIASED)
}

fn filter<'a>(input: &mut Input<'a>) -> TopicFilter<'a> {
    let plain = TopicFilter::new("#").expect("it is a filter");
    TopicFilter::new(input.text()).unwrap_or(plain)
}

/// A block of properties. Each must be taken exactly if the block with it passes as one from the network would.
pub(super) fn properties(input: &mut Input<'_>, carrier: Carrier) -> PropertiesBuf {
    let mut block = PropertiesBuf::new(carrier);
    for _ in 0..input.byte() % 8 {
        let property = property(input);
        let before = block.as_properties().as_bytes().to_vec();
        let pushed = block.push(property);
        let Some(bytes) = naive::property(&property) else {
            assert_eq!(pushed, Err(DecodeError::FieldTooLong));
            continue;
        };
        let with_it = [&before[..], &bytes].concat();
        match (pushed, Properties::new(&with_it, carrier)) {
            (Ok(()), Ok(checked)) => assert_eq!(block.as_properties(), checked),
            // The method may still follow; the packet is refused if it does not.
            (Ok(()), Err(DecodeError::AuthenticationMethodMissing)) => {}
            (Err(_), Err(_)) => assert_eq!(block.as_properties().as_bytes(), before),
            (pushed, checked) => panic!("{property:?}: {pushed:?}, but {checked:?}"),
        }
    }
    block
}

fn property<'a>(input: &mut Input<'a>) -> Property<'a> {
    use Property as P;
    // The fuzzer changes one byte more easily than two.
    let number = |input: &mut Input<'_>| u32::from(input.byte()) << input.one_of(&[0, 8, 16, 24]);
    match input.byte() % 27 {
        0 => P::PayloadFormatIndicator(input.bool()),
        1 => P::MessageExpiryInterval(number(input)),
        2 => P::ContentType(input.text()),
        3 => P::ResponseTopic(topic(input)),
        4 => P::CorrelationData(input.binary()),
        5 => P::SubscriptionIdentifier(number(input)),
        6 => P::SessionExpiryInterval(number(input)),
        7 => P::AssignedClientIdentifier(input.text()),
        8 => P::ServerKeepAlive(input.u16()),
        9 => P::AuthenticationMethod(input.text()),
        10 => P::AuthenticationData(input.binary()),
        11 => P::RequestProblemInformation(input.bool()),
        12 => P::WillDelayInterval(number(input)),
        13 => P::RequestResponseInformation(input.bool()),
        14 => P::ResponseInformation(input.text()),
        15 => P::ServerReference(input.text()),
        16 => P::ReasonString(input.text()),
        17 => P::ReceiveMaximum(input.u16()),
        18 => P::TopicAliasMaximum(input.u16()),
        19 => P::TopicAlias(input.u16()),
        20 => P::MaximumQoS(qos(input)),
        21 => P::RetainAvailable(input.bool()),
        22 => P::UserProperty((input.text(), input.text())),
        23 => P::MaximumPacketSize(number(input)),
        24 => P::WildcardSubscriptionAvailable(input.bool()),
        25 => P::SubscriptionIdentifierAvailable(input.bool()),
        _ => P::SharedSubscriptionAvailable(input.bool()),
    }
}

/// Filters with options, and the same list as it lies on the wire.
pub(super) fn filters(input: &mut Input<'_>) -> (FiltersBuf, Vec<u8>) {
    let (mut list, mut bytes) = (FiltersBuf::new(), Vec::new());
    for _ in 0..input.byte() % 5 {
        let filter = filter(input);
        let options = SubscriptionOptions {
            qos: qos(input),
            no_local: input.bool(),
            retain_as_published: input.bool(),
            retain_handling: input.one_of(&[
                RetainHandling::SendAtSubscribe,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]),
        };
        // v5 [MQTT-3.8.3-4].
        let expected = if options.no_local && filter.starts_with("$share/") {
            Err(DecodeError::NoLocalOnShared)
        } else {
            put_filter(&mut bytes, filter);
            bytes.push(naive::options(options));
            Ok(())
        };
        assert_eq!(list.push(filter, options), expected);
    }
    (list, bytes)
}

/// Filters alone, and the same list as it lies on the wire.
pub(super) fn unsubscribe_filters(input: &mut Input<'_>) -> (UnsubscribeFiltersBuf, Vec<u8>) {
    let (mut list, mut bytes) = (UnsubscribeFiltersBuf::new(), Vec::new());
    for _ in 0..input.byte() % 5 {
        let filter = filter(input);
        put_filter(&mut bytes, filter);
        list.push(filter).expect("the list is far below the bound");
    }
    (list, bytes)
}

fn put_filter(bytes: &mut Vec<u8>, filter: TopicFilter<'_>) {
    let len = u16::try_from(filter.len()).expect("a filter is no longer");
    bytes.extend(len.to_be_bytes());
    bytes.extend(filter.as_bytes());
}
