//! CONNECT, v5 section 3.1, v3.1.1 section 3.1.

use crate::encode::{Encode, encodable};
use crate::wire::{Reader, Sink, check_field_len, check_string, split_field, split_plain};
use crate::{
    Carrier, DecodeError, EncodeError, Frame, Packet, PacketType, Properties, QoS, TopicName, Version,
};

/// The client's first packet. It says itself which version it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the client speaks from here on.
    pub version: Version,
    /// Clean Start; in 3.1.1 Clean Session.
    pub clean_start: bool,
    /// The keep alive interval in seconds; 0 switches it off.
    pub keep_alive_secs: u16,
    /// The client identifier. It may be empty, in 3.1.1 with Clean Session only; whether the server gives one then is
    /// the session's matter.
    pub client_id: &'a str,
    /// The message that the server publishes if the connection is lost.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password; in 3.1.1 only with a user name.
    pub password: Option<&'a [u8]>,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

/// The will message of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where it is published.
    pub topic: TopicName<'a>,
    /// What is published.
    pub payload: &'a [u8],
    /// With which QoS it is published.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// The will properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

/// The protocol name behind its length, `[MQTT-3.1.2-1]` of both versions.
const PROTOCOL: [u8; 6] = *b"\0\x04MQTT";

// The connect flags, v5 section 3.1.2.3.
const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS_SHIFT: u32 = 3;
const WILL_QOS: u8 = 0b0001_1000;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USERNAME: u8 = 0b1000_0000;

impl<'a> Connect<'a> {
    /// Reads only the version of a CONNECT, so that a server can answer one that is malformed behind it. What it
    /// says of another packet's frame means nothing.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ProtocolName`], [`DecodeError::ProtocolLevel`] (`[MQTT-3.1.2-1]` and `[MQTT-3.1.2-2]` of both
    /// versions), [`DecodeError::Truncated`].
    pub fn peek_version(frame: Frame<'a>) -> Result<Version, DecodeError> {
        decode_version(&mut Reader::new(frame.body()))
    }

    /// Decodes the body as the packet that it is, in whichever version it says. `is_minimal` says whether the remaining
    /// length was in its shortest form.
    #[inline(never)]
    pub(crate) fn decode(body: &'a [u8], is_minimal: bool) -> Result<Packet<'a>, DecodeError> {
        // The fields in front have always the same length, so two comparisons find nearly all that can be wrong.
        let Some(([protocol @ .., level @ 4..=5, flags, high, low], rest)) = body.split_first_chunk::<10>()
        else {
            return Err(unsound_start(body));
        };
        if protocol != &PROTOCOL {
            return Err(unsound_start(body));
        }
        let keep_alive_secs = u16::from_be_bytes([*high, *low]);
        if *level == Version::V311.level() {
            match Self::decode_usual(*flags, keep_alive_secs, rest) {
                Some(connect) => Ok(Packet::Connect(connect)),
                None => Self::decode_v311(*flags, keep_alive_secs, rest),
            }
        } else if is_minimal {
            Self::decode_v5(*flags, keep_alive_secs, rest)
        } else {
            // v5 [MQTT-1.5.5-1].
            Err(DecodeError::VariableByteIntegerNotMinimal)
        }
    }

    /// Decodes 3.1.1 with a client identifier and all texts in ASCII; `None` if it is not that, or has something wrong:
    /// then the other way knows.
    #[inline(always)]
    fn decode_usual(flags: u8, keep_alive_secs: u16, rest: &'a [u8]) -> Option<Self> {
        if !has_sound_flags_v311(flags) {
            return None;
        }
        let clean_start = flags & CLEAN_START != 0;
        let (client_id, mut rest) = split_plain::<false>(rest)?;
        if client_id.is_empty() {
            // Only a few do without, and not all of them may.
            return None;
        }
        let (mut will, mut username, mut password) = (None, None, None);
        if flags & WILL != 0 {
            let (topic, behind) = TopicName::split_usual(rest)?;
            let (payload, behind) = split_field(behind)?;
            will = Some(Will {
                topic,
                payload,
                qos: QoS::from_bits(flags >> WILL_QOS_SHIFT).ok()?,
                retain: flags & WILL_RETAIN != 0,
                properties: Properties::EMPTY,
            });
            rest = behind;
        }
        if flags & USERNAME != 0 {
            let (text, behind) = split_plain::<false>(rest)?;
            (username, rest) = (Some(text), behind);
        }
        if flags & PASSWORD != 0 {
            let (bytes, behind) = split_field(rest)?;
            (password, rest) = (Some(bytes), behind);
        }
        rest.is_empty().then_some(Self {
            version: Version::V311,
            clean_start,
            keep_alive_secs,
            client_id,
            will,
            username,
            password,
            properties: Properties::EMPTY,
        })
    }

    /// A function of its own for each version, so that nothing about properties is left in this one.
    #[inline(never)]
    fn decode_v311(flags: u8, keep_alive_secs: u16, rest: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
        Self::decode_rest(Version::V311, flags, keep_alive_secs, rest).map(Packet::Connect)
    }

    #[inline(never)]
    fn decode_v5(flags: u8, keep_alive_secs: u16, rest: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
        Self::decode_rest(Version::V5, flags, keep_alive_secs, rest).map(Packet::Connect)
    }

    /// Everything behind the keep alive interval.
    #[inline(always)]
    fn decode_rest(
        version: Version,
        flags: u8,
        keep_alive_secs: u16,
        rest: &'a [u8],
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(rest);
        check_flags(flags, version)?;
        let properties = Properties::decode(&mut reader, version, Carrier::Connect)?;
        let client_id = reader.string()?;
        let clean_start = flags & CLEAN_START != 0;
        check_client_id(client_id, clean_start, version)?;
        let will = if flags & WILL == 0 {
            None
        } else {
            Some(Will::decode(&mut reader, flags, version)?)
        };
        let username = if flags & USERNAME == 0 {
            None
        } else {
            Some(reader.string()?)
        };
        let password = if flags & PASSWORD == 0 {
            None
        } else {
            Some(reader.binary()?)
        };
        reader.finish()?;
        Ok(Self {
            version,
            clean_start,
            keep_alive_secs,
            client_id,
            will,
            username,
            password,
            properties,
        })
    }

    fn flags(&self) -> u8 {
        let mut flags = self.will.map_or(0, |will| {
            WILL | will.qos.bits() << WILL_QOS_SHIFT | if will.retain { WILL_RETAIN } else { 0 }
        });
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if self.username.is_some() {
            flags |= USERNAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

/// What is wrong with the fields in front.
#[cold]
fn unsound_start(body: &[u8]) -> DecodeError {
    let version = decode_version(&mut Reader::new(body));
    version.err().unwrap_or(DecodeError::Truncated)
}

fn decode_version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    if reader.binary()? != PROTOCOL.get(2..).unwrap_or_default() {
        return Err(DecodeError::ProtocolName);
    }
    match reader.u8()? {
        4 => Ok(Version::V311),
        5 => Ok(Version::V5),
        level => Err(DecodeError::ProtocolLevel(level)),
    }
}

/// `[MQTT-3.1.2-3]` of both versions; v5 `[MQTT-3.1.2-11]` to `-13`; v3.1.1 `[MQTT-3.1.2-13]` to `-15`, `-22`.
const fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 {
        return Err(DecodeError::ConnectFlagReserved);
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::WillFlags);
    }
    if flags & WILL_QOS == WILL_QOS {
        return Err(DecodeError::WillQoSReserved);
    }
    match version {
        Version::V311 if flags & PASSWORD != 0 && flags & USERNAME == 0 => {
            Err(DecodeError::PasswordWithoutUsername)
        }
        _ => Ok(()),
    }
}

/// Whether [`check_flags`] finds nothing in those of 3.1.1: one look-up.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "the table has an entry for every byte")]
const fn has_sound_flags_v311(flags: u8) -> bool {
    SOUND_FLAGS_V311[flags as usize]
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static SOUND_FLAGS_V311: [bool; 256] = {
    let mut table = [false; 256];
    let mut flags = 0;
    while flags < 256 {
        table[flags] = check_flags(flags as u8, Version::V311).is_ok();
        flags += 1;
    }
    table
};

/// v3.1.1 `[MQTT-3.1.3-7]`.
const fn check_client_id(client_id: &str, clean_start: bool, version: Version) -> Result<(), DecodeError> {
    match version {
        Version::V311 if client_id.is_empty() && !clean_start => Err(DecodeError::ClientIdMissing),
        _ => Ok(()),
    }
}

impl<'a> Will<'a> {
    #[inline(always)]
    fn decode(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Self, DecodeError> {
        Ok(Self {
            properties: Properties::decode(reader, version, Carrier::Will)?,
            topic: TopicName::decode(reader)?,
            payload: reader.binary()?,
            qos: QoS::from_bits(flags >> WILL_QOS_SHIFT)?,
            retain: flags & WILL_RETAIN != 0,
        })
    }

    fn check(&self, version: Version) -> Result<(), DecodeError> {
        if self.topic.is_empty() {
            return Err(DecodeError::TopicNameMissing);
        }
        self.properties.check(version, Carrier::Will)?;
        check_field_len(self.payload)
    }

    #[inline(always)]
    fn encode(&self, version: Version, sink: &mut impl Sink) {
        self.properties.encode(version, sink);
        sink.put_field(self.topic.as_bytes());
        sink.put_field(self.payload);
    }
}

impl Encode for Connect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Connect.first_byte()
    }

    /// The packet's own version counts.
    fn check_encodable(&self, _: Version) -> Result<(), EncodeError> {
        check_client_id(self.client_id, self.clean_start, self.version)?;
        self.properties.check(self.version, Carrier::Connect)?;
        check_string(self.client_id)?;
        if let Some(will) = &self.will {
            will.check(self.version)?;
        }
        if let Some(username) = self.username {
            check_string(username)?;
        }
        if let Some(password) = self.password {
            check_field_len(password)?;
            // The only rule for the flags that the fields can break.
            if self.username.is_none() && self.version == Version::V311 {
                return Err(DecodeError::PasswordWithoutUsername.into());
            }
        }
        Ok(())
    }

    /// The packet's own version counts.
    #[inline(always)]
    fn encode_body(&self, _: Version, sink: &mut impl Sink) {
        let [p0, p1, p2, p3, p4, p5] = PROTOCOL;
        let [high, low] = self.keep_alive_secs.to_be_bytes();
        sink.put(&[
            p0,
            p1,
            p2,
            p3,
            p4,
            p5,
            self.version.level(),
            self.flags(),
            high,
            low,
        ]);
        self.properties.encode(self.version, sink);
        sink.put_field(self.client_id.as_bytes());
        if let Some(will) = &self.will {
            will.encode(self.version, sink);
        }
        if let Some(username) = self.username {
            sink.put_field(username.as_bytes());
        }
        if let Some(password) = self.password {
            sink.put_field(password);
        }
    }
}

encodable!(Connect<'_>);

#[cfg(test)]
mod tests;
