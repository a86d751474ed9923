//! What the fuzz targets call: each function takes any input and panics where a promise of the code is broken.
//!
//! `cargo test --workspace` includes this file in a test of stable Rust that replays the corpora.

pub mod tls;

use std::str;

use fleetwire_codec::frame::{self, Frame, Measure, Split};
use fleetwire_codec::{
    Carrier, EncodeError, FiltersBuf, Packet, Properties, PropertiesBuf, TopicFilter, TopicName,
    UnsubscribeFiltersBuf, Version,
};

/// A stream of packets as a socket delivers it, and then the same bytes as the text of topics.
pub fn frame(input: &[u8]) {
    let mut rest = input;
    while let Some(frame) = first_frame(rest) {
        for version in [Version::V311, Version::V5] {
            packet(frame, version);
        }
        rest = &rest[frame.len()..];
    }
    if let Ok(text) = str::from_utf8(input) {
        topics(text);
    }
}

/// Splits off the first frame, and checks that the same bytes give the same answer in whatever pieces they arrive.
fn first_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let whole = split(bytes, usize::MAX);
    let cuts = match whole {
        Ok(Split::Complete(frame)) => frame.len(),
        _ => bytes.len(),
    };
    for cut in 0..cuts {
        match split(&bytes[..cut], usize::MAX) {
            Ok(Split::Partial { missing }) => {
                if let Ok(Split::Complete(frame)) = whole {
                    assert!(
                        cut + missing <= frame.len(),
                        "more was asked for than the packet has"
                    );
                }
            }
            Ok(Split::Complete(frame)) => panic!("{} of {cut} bytes are a packet already", frame.len()),
            early => assert_eq!(early, whole, "cut at {cut}"),
        }
    }
    let Ok(Split::Complete(frame)) = whole else {
        return None;
    };
    assert_eq!(split(&bytes[..frame.len()], frame.len()), whole);
    assert!(
        split(bytes, frame.len() - 1).is_err(),
        "the length limit does not hold"
    );
    Some(frame)
}

/// Splits; `measure` must agree in everything.
fn split(bytes: &[u8], packet_len_max: usize) -> Result<Split<'_>, fleetwire_codec::DecodeError> {
    let split = frame::split(bytes, packet_len_max);
    match (split, frame::measure(bytes, packet_len_max)) {
        (Ok(Split::Complete(frame)), Ok(Measure::Whole(len))) => {
            assert_eq!(frame.len(), len);
            assert!(len <= bytes.len() && len <= packet_len_max);
        }
        (
            Ok(Split::Partial { missing }),
            Ok(Measure::Partial {
                missing: same,
                declared,
            }),
        ) => {
            assert_eq!(missing, same);
            assert!(missing > 0);
            assert!(declared.is_none_or(|declared| declared == bytes.len() + missing));
        }
        (split, measure) => assert_eq!(split.expect_err("no error"), measure.expect_err("no error")),
    }
    split
}

/// What decodes encodes in at most as many bytes, to a packet that says the same; in just as many, to the same bytes.
fn packet(frame: Frame<'_>, version: Version) {
    let Ok(packet) = Packet::decode(frame, version) else {
        return;
    };
    assert_eq!(packet.packet_type(), frame.packet_type());
    // CONNECT says its own version.
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let len = packet.encoded_len(version).expect("what decodes can be encoded");
    let mut bytes = vec![0; len];
    assert_eq!(packet.encode(version, &mut bytes), Ok(len));
    let again = split(&bytes, len).expect("it is a frame");
    let Split::Complete(again) = again else {
        panic!("{packet:?} is encoded too short")
    };
    assert_eq!((again.len(), Packet::decode(again, version)), (len, Ok(packet)));
    assert!(len <= frame.len(), "the shortest form of {packet:?} is longer");
    if len == frame.len() {
        assert_eq!(
            (again.first_byte(), again.body()),
            (frame.first_byte(), frame.body())
        );
    }
    let too_small = EncodeError::BufferTooSmall { needed: len };
    assert_eq!(packet.encode(version, &mut bytes[1..]), Err(too_small));
    lent(&packet);
}

/// Builds anew, through the checks for the way out, what a packet lends.
fn lent(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(connect) => {
            properties(connect.properties, Carrier::Connect);
            if let Some(will) = connect.will {
                properties(will.properties, Carrier::Will);
                assert_eq!(TopicName::new(will.topic.as_str()), Ok(will.topic));
            }
        }
        Packet::Connack(connack) => properties(connack.properties, Carrier::Connack),
        Packet::Publish(publish) => {
            properties(publish.properties, Carrier::Publish);
            if publish.topic != TopicName::ALIASED {
                assert_eq!(TopicName::new(publish.topic.as_str()), Ok(publish.topic));
            }
        }
        Packet::Puback(puback) => properties(puback.properties, Carrier::Puback),
        Packet::Pubrec(pubrec) => properties(pubrec.properties, Carrier::Pubrec),
        Packet::Pubrel(pubrel) => properties(pubrel.properties, Carrier::Pubrel),
        Packet::Pubcomp(pubcomp) => properties(pubcomp.properties, Carrier::Pubcomp),
        Packet::Subscribe(subscribe) => {
            properties(subscribe.properties, Carrier::Subscribe);
            let mut filters = FiltersBuf::new();
            for (filter, options) in subscribe.filters.iter() {
                assert_eq!(TopicFilter::new(filter.as_str()), Ok(filter));
                filters.push(filter, options).expect("it was decoded");
            }
            assert_eq!(filters.as_filters(), subscribe.filters);
        }
        Packet::Suback(suback) => {
            properties(suback.properties, Carrier::Suback);
            assert_eq!(suback.reasons().count(), suback.codes.len());
        }
        Packet::Unsubscribe(unsubscribe) => {
            properties(unsubscribe.properties, Carrier::Unsubscribe);
            let mut filters = UnsubscribeFiltersBuf::new();
            for filter in unsubscribe.filters.iter() {
                assert_eq!(TopicFilter::new(filter.as_str()), Ok(filter));
                filters.push(filter).expect("it was decoded");
            }
            assert_eq!(filters.as_filters(), unsubscribe.filters);
        }
        Packet::Unsuback(unsuback) => {
            properties(unsuback.properties, Carrier::Unsuback);
            assert_eq!(unsuback.reasons().count(), unsuback.codes.len());
        }
        Packet::Pingreq | Packet::Pingresp => {}
        Packet::Disconnect(disconnect) => properties(disconnect.properties, Carrier::Disconnect),
        Packet::Auth(auth) => properties(auth.properties, Carrier::Auth),
    }
}

fn properties(properties: Properties<'_>, carrier: Carrier) {
    let mut built = PropertiesBuf::new(carrier);
    for property in properties.iter() {
        built.push(property).expect("it was decoded");
    }
    assert_eq!(built.as_properties().as_bytes(), properties.as_bytes());
    assert_eq!(Properties::new(properties.as_bytes(), carrier), Ok(properties));
}

/// The first line as a filter, what follows as a name: both are judged, and matched, as the naive versions do it.
fn topics(text: &str) {
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));
    let is_name = !name.is_empty() && name.len() <= 65_535 && !name.contains(['\0', '+', '#']);
    let name = TopicName::new(name);
    assert_eq!(name.is_ok(), is_name);
    let checked = TopicFilter::new(filter);
    assert_eq!(checked.is_ok(), is_filter(filter), "{filter:?}");
    if let (Ok(filter), Ok(name)) = (checked, name) {
        let levels: Vec<_> = filter.levels().collect();
        let levels = if filter.starts_with("$share/") {
            &levels[2..]
        } else {
            &levels
        };
        let hidden = name.starts_with('$') && levels[0].starts_with(['+', '#']);
        let names: Vec<_> = name.levels().collect();
        assert_eq!(
            filter.matches(name),
            !hidden && levels_match(levels, &names),
            "{filter} {name}"
        );
    }
}

/// v5 section 4.7.1 and 4.8.2, level by level.
fn is_filter(filter: &str) -> bool {
    let mut levels: Vec<_> = filter.split('/').collect();
    if filter.starts_with("$share/") {
        if levels.len() < 3 || levels[1].is_empty() || levels[1].contains(['+', '#']) {
            return false;
        }
        levels.drain(..2);
        // What is shared is a filter, and so not empty.
        if levels == [""] {
            return false;
        }
    }
    let (last, before) = levels.split_last().expect("split gives at least one");
    let plain = |level: &&str| *level == "+" || !level.contains(['+', '#']);
    !filter.is_empty()
        && filter.len() <= 65_535
        && !filter.contains('\0')
        && before.iter().all(plain)
        && (plain(last) || *last == "#")
}

fn levels_match(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) => true,
        ([level, filter @ ..], [same, name @ ..]) if *level == "+" || level == same => {
            levels_match(filter, name)
        }
        _ => filter.is_empty() && name.is_empty(),
    }
}
