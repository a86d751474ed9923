//! One packet through our codec and those of others. What two of them accept they must read alike, field by field; where
//! they do not agree, `docs/DIFFERENCES.md` must say why: it is read here, and what it does not list fails.

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use fleetwire_codec::frame::{Frame, Split};
use fleetwire_codec::{Connect, DecodeError, Packet, PacketType, Version};

use super::frame::split;
use super::packet::{put_varint, version_of, with_header};

mod mqtt_protocol_core;
mod ours;
mod rumqttc;
mod said;

use said::Said;

/// How the packet is to be built, its first byte, and its body.
pub fn differential(input: &[u8]) {
    for difference in differences(input) {
        assert!(row_of(&difference).is_some(), "not listed: {difference}");
    }
}

/// Where one of the others reads the input otherwise than we do.
pub fn differences(input: &[u8]) -> Vec<Difference> {
    let [how, first, body @ ..] = input else {
        return Vec::new();
    };
    let bytes = if how & 2 == 0 {
        with_header(*first, body)
    } else {
        with_long_header(*first, body)
    };
    let frame = match split(&bytes, usize::MAX) {
        Ok(Split::Complete(frame)) => Ok(frame),
        Ok(Split::Partial { .. }) => panic!("the header counts too many bytes"),
        Err(error) => Err(error),
    };
    let version = version_said(frame.ok(), version_of(*how));
    let ours = frame.and_then(|frame| Packet::decode(frame, version));
    let said = ours.as_ref().map(ours::said).map_err(|error| *error);
    let theirs = [
        (rumqttc::NAME, guarded(|| rumqttc::read(&bytes, version))),
        (
            mqtt_protocol_core::NAME,
            guarded(|| mqtt_protocol_core::read(frame.ok()?, version)),
        ),
    ];
    let mut differences = Vec::new();
    for (peer, theirs) in theirs {
        let kind = match (&said, theirs) {
            (_, Err(Panicked)) => Kind::Panics,
            (_, Ok(None)) | (Err(_), Ok(Some(Err(_)))) => continue,
            (Err(error), Ok(Some(Ok(_)))) => Kind::Accepts(*error),
            (Ok(_), Ok(Some(Err(error)))) => Kind::Refuses(error),
            (Ok(ours), Ok(Some(Ok(theirs)))) => match ours.first_difference(&theirs) {
                Some(field) => Kind::ReadsOtherwise(field),
                None => continue,
            },
        };
        differences.push(Difference {
            peer,
            version,
            packet: PacketType::from_first_byte(*first).map_or("reserved", PacketType::name),
            kind,
        });
    }
    differences
}

/// A remaining length with a byte more than it needs, which v5 `[MQTT-1.5.5-1]` forbids.
fn with_long_header(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_varint(&mut bytes, body.len());
    if let Some(last) = bytes.last_mut() {
        *last |= 0x80;
    }
    bytes.push(0);
    bytes.extend_from_slice(body);
    bytes
}

/// CONNECT says itself which version it is in; others want to know it before.
fn version_said(frame: Option<Frame<'_>>, version: Version) -> Version {
    match frame {
        Some(frame) if frame.packet_type() == PacketType::Connect => {
            Connect::peek_version(frame).unwrap_or(version)
        }
        _ => version,
    }
}

/// What another codec made of a packet: what it read, or its error's name. `None` if it has no decoder for it.
type Read = Option<Result<Said, String>>;

struct Panicked;

thread_local! {
    static IN_PEER: Cell<bool> = const { Cell::new(false) };
}

/// Catches the panics of others. Fuzzers abort in the hook already, before anything unwinds, so that their hook must not
/// see these.
fn guarded(read: impl FnOnce() -> Read) -> Result<Read, Panicked> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IN_PEER.get() {
                hook(info);
            }
        }));
    });
    IN_PEER.set(true);
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    IN_PEER.set(false);
    read.map_err(|_| Panicked)
}

/// One disagreement about one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The other codec.
    pub peer: &'static str,
    /// The version that the packet was decoded in.
    pub version: Version,
    /// The packet's name as the specification spells it.
    pub packet: &'static str,
    /// Who does what.
    pub kind: Kind,
}

/// What the other codec does, where ours does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It accepts what we refuse for this.
    Accepts(DecodeError),
    /// It refuses what we accept; its error's name.
    Refuses(String),
    /// Both accept, and this is the first field that they read otherwise.
    ReadsOtherwise(&'static str),
    /// It panics.
    Panics,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} | {} | {} |",
            self.peer, self.version, self.packet, self.kind
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepts(error) => write!(f, "accepts `{error:?}`"),
            Self::Refuses(error) => write!(f, "refuses `{error}`"),
            Self::ReadsOtherwise(field) => write!(f, "reads {field} otherwise"),
            Self::Panics => f.write_str("panics"),
        }
    }
}

/// The row of `docs/DIFFERENCES.md` that lists it.
pub fn row_of(difference: &Difference) -> Option<Row> {
    rows().find(|row| row.lists(difference))
}

/// All rows of `docs/DIFFERENCES.md`.
pub fn rows() -> impl Iterator<Item = Row> {
    include_str!("../../docs/DIFFERENCES.md")
        .lines()
        .filter_map(Row::read)
}

/// A row of `docs/DIFFERENCES.md`: all cells but the last are lists, `all` stands for all packets, and an error without its
/// argument for it with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The other codec.
    pub peer: &'static str,
    versions: &'static str,
    packets: &'static str,
    kinds: &'static str,
    /// Why it is so, with the clause.
    pub why: &'static str,
}

impl Row {
    fn read(line: &'static str) -> Option<Self> {
        let mut cells = line
            .strip_prefix('|')?
            .strip_suffix('|')?
            .split('|')
            .map(str::trim);
        let row = Self {
            peer: cells.next()?,
            versions: cells.next()?,
            packets: cells.next()?,
            kinds: cells.next()?,
            why: cells.next()?,
        };
        [rumqttc::NAME, mqtt_protocol_core::NAME]
            .contains(&row.peer)
            .then_some(row)
    }

    fn lists(&self, difference: &Difference) -> bool {
        let kind = difference.kind.to_string();
        let (without_argument, _) = kind.split_once('(').unwrap_or((&kind, ""));
        let without_argument = format!("{without_argument}`");
        let holds = |list: &str, item: &str| list.split(", ").any(|listed| listed == item);
        self.peer == difference.peer
            && holds(self.versions, &difference.version.to_string())
            && (self.packets == "all" || holds(self.packets, difference.packet))
            && (holds(self.kinds, &kind) || holds(self.kinds, &without_argument))
    }
}
