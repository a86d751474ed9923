//! CONNECT, v5 section 3.1, v3.1.1 section 3.1.

use crate::encode::{Encode, encodable};
use crate::wire::{Reader, Sink};
use crate::{Carrier, DecodeError, EncodeError, Frame, PacketType, Properties, QoS, TopicName, Version};

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

const PROTOCOL_NAME: &[u8] = b"MQTT";

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
    /// Reads only the version of a CONNECT, so that a server can answer one that is malformed behind it.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ProtocolName`], [`DecodeError::ProtocolLevel`] (`[MQTT-3.1.2-1]` and `[MQTT-3.1.2-2]` of both
    /// versions), [`DecodeError::Truncated`].
    pub fn peek_version(frame: Frame<'a>) -> Result<Version, DecodeError> {
        decode_version(&mut Reader::new(frame.body()))
    }

    pub(crate) fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body());
        let version = decode_version(&mut reader)?;
        // v5 [MQTT-1.5.5-1].
        if version == Version::V5 && !frame.has_minimal_header() {
            return Err(DecodeError::VariableByteIntegerNotMinimal);
        }
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive_secs = reader.u16()?;
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

fn decode_version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    if reader.binary()? != PROTOCOL_NAME {
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

/// v3.1.1 `[MQTT-3.1.3-7]`.
const fn check_client_id(client_id: &str, clean_start: bool, version: Version) -> Result<(), DecodeError> {
    match version {
        Version::V311 if client_id.is_empty() && !clean_start => Err(DecodeError::ClientIdMissing),
        _ => Ok(()),
    }
}

impl<'a> Will<'a> {
    fn decode(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Self, DecodeError> {
        Ok(Self {
            properties: Properties::decode(reader, version, Carrier::Will)?,
            topic: TopicName::decode(reader)?,
            payload: reader.binary()?,
            qos: QoS::from_bits(flags >> WILL_QOS_SHIFT)?,
            retain: flags & WILL_RETAIN != 0,
        })
    }

    fn encode(&self, version: Version, sink: &mut impl Sink) -> Result<(), DecodeError> {
        if self.topic.is_empty() {
            return Err(DecodeError::TopicNameMissing);
        }
        self.properties.encode(version, Carrier::Will, sink)?;
        sink.put_binary(self.topic.as_bytes())?;
        sink.put_binary(self.payload)
    }
}

impl Encode for Connect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Connect.first_byte()
    }

    /// The packet's own version counts.
    fn encode_body(&self, _: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        let flags = self.flags();
        check_flags(flags, self.version)?;
        check_client_id(self.client_id, self.clean_start, self.version)?;
        sink.put_binary(PROTOCOL_NAME)?;
        sink.put_u8(self.version.level());
        sink.put_u8(flags);
        sink.put_u16(self.keep_alive_secs);
        self.properties.encode(self.version, Carrier::Connect, sink)?;
        sink.put_unchecked_string(self.client_id)?;
        if let Some(will) = self.will {
            will.encode(self.version, sink)?;
        }
        if let Some(username) = self.username {
            sink.put_unchecked_string(username)?;
        }
        if let Some(password) = self.password {
            sink.put_binary(password)?;
        }
        Ok(())
    }
}

encodable!(Connect<'_>);

#[cfg(test)]
mod tests;
