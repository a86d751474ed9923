//! A look into the ClientHello, before any TLS state exists (RFC 8446 section 4.1.2).

use rustls_pki_types::DnsName;

use crate::reader::Reader;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// Too few bytes to say.
    NeedMore,
    /// A ClientHello, whole and in one record.
    Hello(ClientHello<'a>),
    /// A ClientHello that is split over several records.
    Fragmented,
    /// A TLS record that holds no well-formed ClientHello.
    Malformed,
    /// Something else than TLS.
    NotTls,
}

/// What a ClientHello says about itself, borrowed from the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    alpn: AlpnNames<'a>,
    server_name: Option<&'a str>,
    tls12: bool,
    tls13: bool,
}

impl<'a> ClientHello<'a> {
    /// Looks at the first bytes of a connection. It allocates nothing, and cannot panic.
    pub fn peek(bytes: &'a [u8]) -> Peek<'a> {
        match not_tls(bytes) {
            Some(true) => return Peek::NotTls,
            Some(false) => {}
            None => return Peek::NeedMore,
        }
        let mut reader = Reader(bytes);
        let (Some(content_type), Some(_version), Some(length)) = (reader.u8(), reader.u16(), reader.u16())
        else {
            return Peek::NeedMore;
        };
        let length = usize::from(length);
        if content_type != HANDSHAKE || length == 0 || length > PLAINTEXT_LEN_MAX {
            return Peek::Malformed;
        }
        let Some(record) = reader.take(length) else {
            return Peek::NeedMore;
        };
        let mut reader = Reader(record);
        match reader.u8() {
            Some(CLIENT_HELLO) => {}
            _ => return Peek::Malformed,
        }
        let Some(length) = reader.u24() else {
            return Peek::Fragmented;
        };
        match reader.take(length) {
            Some(body) => match Self::parse(body) {
                Some(hello) => Peek::Hello(hello),
                None => Peek::Malformed,
            },
            None => Peek::Fragmented,
        }
    }

    /// The ALPN names that are offered, in the client's order.
    pub fn alpn(&self) -> AlpnNames<'a> {
        self.alpn
    }

    /// The host name of the SNI extension as it was sent, if it is a DNS name. Upper and lower case mean the same
    /// (RFC 6066 section 3).
    pub fn server_name(&self) -> Option<&'a str> {
        self.server_name
    }

    /// Whether TLS 1.2 is offered.
    pub fn offers_tls12(&self) -> bool {
        self.tls12
    }

    /// Whether TLS 1.3 is offered.
    pub fn offers_tls13(&self) -> bool {
        self.tls13
    }

    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let legacy_version = reader.u16()?;
        reader.take(RANDOM_LEN)?;
        reader.vector8()?; // legacy_session_id
        reader.vector16()?; // cipher_suites
        reader.vector8()?; // legacy_compression_methods
        let mut hello = Self {
            alpn: AlpnNames { list: &[] },
            server_name: None,
            tls12: legacy_version >= TLS12,
            tls13: false,
        };
        if reader.0.is_empty() {
            return Some(hello);
        }
        let mut extensions = Reader(reader.vector16()?);
        while !extensions.0.is_empty() {
            let extension = extensions.u16()?;
            let content = extensions.vector16()?;
            match extension {
                SERVER_NAME => hello.server_name = parse_server_name(content)?,
                ALPN => hello.alpn = AlpnNames::parse(content)?,
                SUPPORTED_VERSIONS => {
                    // RFC 8446 section 4.2.1: where it is present, it alone counts.
                    let mut versions = Reader(Reader(content).vector8()?);
                    (hello.tls12, hello.tls13) = (false, false);
                    while !versions.0.is_empty() {
                        match versions.u16()? {
                            TLS12 => hello.tls12 = true,
                            TLS13 => hello.tls13 = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        reader.0.is_empty().then_some(hello)
    }
}

/// A checked ProtocolNameList (RFC 7301 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlpnNames<'a> {
    list: &'a [u8],
}

impl<'a> AlpnNames<'a> {
    fn parse(content: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(content);
        let list = reader.vector16()?;
        if list.is_empty() || !reader.0.is_empty() {
            return None;
        }
        let mut names = Reader(list);
        while !names.0.is_empty() {
            if names.vector8()?.is_empty() {
                return None;
            }
        }
        Some(Self { list })
    }
}

impl<'a> Iterator for AlpnNames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut reader = Reader(self.list);
        let name = reader.vector8()?;
        self.list = reader.0;
        Some(name)
    }
}

/// Whether a connection that begins with these bytes is no TLS; `None` if that cannot be said yet.
///
/// Each record begins with a content type from 20 to 24 and the version's major number 3 (RFC 8446 section 5.1). Neither
/// HTTP nor an MQTT packet does: CONNECT begins with 0x10, CONNACK with 0x20.
pub(crate) fn not_tls(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [] => None,
        [20..=24] => None,
        [20..=24, 3, ..] => Some(false),
        _ => Some(true),
    }
}

/// RFC 6066 section 3: a list of names, of which only the type host_name exists.
fn parse_server_name(content: &[u8]) -> Option<Option<&str>> {
    let mut reader = Reader(content);
    let mut names = Reader(reader.vector16()?);
    let mut host_name = None;
    while !names.0.is_empty() {
        let name_type = names.u8()?;
        let name = names.vector16()?;
        if name_type == HOST_NAME && host_name.is_none() {
            host_name = std::str::from_utf8(name)
                .ok()
                .filter(|name| DnsName::try_from(*name).is_ok());
        }
    }
    reader.0.is_empty().then_some(host_name)
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RANDOM_LEN: usize = 32;
const PLAINTEXT_LEN_MAX: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
