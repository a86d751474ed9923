//! What the record layer must do and must refuse, with records made by hand.

use super::*;
use crate::crypto::Algorithm;

mod hostile;
mod key_update;

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::Aes128Gcm,
    Algorithm::Aes256Gcm,
    Algorithm::ChaCha20Poly1305,
];
const FORMATS: [Format; 3] = [Format::Tls13, Format::Tls12Gcm, Format::Tls12ChaCha];
const TICKET: [u8; 19] = [
    NEW_SESSION_TICKET,
    0,
    0,
    15,
    0,
    0,
    1,
    0,
    1,
    2,
    3,
    4,
    1,
    7,
    0,
    1,
    9,
    0,
    0,
];
const ASK_FOR_UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, UPDATE_REQUESTED];
const UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, UPDATE_NOT_REQUESTED];

/// One side with what it works with.
struct End {
    records: InPlaceRecords,
    scratch: Scratch,
    out: Vec<u8>,
}

impl End {
    fn pair(format: Format, algorithm: Algorithm) -> (Self, Self) {
        let end = |role, rx, tx| Self {
            records: InPlaceRecords {
                rx: Keys::made_up(algorithm, rx),
                tx: Keys::made_up(algorithm, tx),
                messages: Messages::default(),
                tickets: None,
                format,
                role,
                idle: 0,
                update_due: false,
                refused_renegotiation: false,
            },
            scratch: Scratch::new(),
            out: Vec::new(),
        };
        (end(Role::Client, 1, 2), end(Role::Server, 2, 1))
    }

    fn of(format: Format) -> (Self, Self) {
        let algorithm = match format {
            Format::Tls12ChaCha => Algorithm::ChaCha20Poly1305,
            Format::Tls13 | Format::Tls12Gcm => Algorithm::Aes128Gcm,
        };
        Self::pair(format, algorithm)
    }

    /// A record of this side's with any content; in TLS 1.3 `padding` zeros follow it.
    fn forge_padded(&mut self, content_type: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let format = self.records.format;
        let mut record = vec![0; format.head()];
        record.extend_from_slice(content);
        if padding > 0 {
            record.push(content_type);
            record.resize(record.len() + padding - 1, 0);
        }
        record.resize(record.len() + format.tail(), 0);
        let keys = &mut self.records.tx;
        let (sequence, context) = (keys.next_sequence().unwrap(), keys.expand().unwrap());
        let inner_type = if padding > 0 { 0 } else { content_type };
        format
            .seal(keys, sequence, &context, inner_type, &mut record)
            .unwrap();
        record
    }

    fn forge(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        self.forge_padded(content_type, content, 0)
    }

    fn open(&mut self, mut bytes: Vec<u8>) -> Result<(Opened, Vec<u8>), TlsError> {
        let opened = self.records.open(&mut self.scratch, &mut bytes, &mut self.out)?;
        let data = match &opened {
            Opened::Data { plain, .. } => bytes[plain.clone()].to_vec(),
            _ => Vec::new(),
        };
        Ok((opened, data))
    }

    fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, TlsError> {
        let framing = self.records.framing();
        let mut block = vec![0; framing.head + plain.len() + framing.tail];
        let place = framing.head..framing.head + plain.len();
        block[place.clone()].copy_from_slice(plain);
        let mut range = place;
        self.records.seal(&mut self.scratch, &mut block, &mut range)?;
        Ok(block[range].to_vec())
    }

    /// The alert with which this side refuses a record; it reaches the other.
    fn refusal(&mut self, bytes: Vec<u8>, other: &mut Self) -> u8 {
        let error = self.open(bytes).unwrap_err();
        assert!(error.refused_by_us(), "{error}");
        let told = other.open(std::mem::take(&mut self.out)).unwrap_err();
        assert!(!told.refused_by_us());
        assert_eq!(told.alert(), error.alert(), "{error}");
        error.alert().unwrap()
    }
}

fn nothing(opened: (Opened, Vec<u8>)) -> bool {
    matches!(opened.0, Opened::Nothing { .. })
}

#[test]
fn an_established_session_is_small() {
    assert!(
        size_of::<InPlaceRecords>() <= 304,
        "{}",
        size_of::<InPlaceRecords>()
    );
}

#[test]
fn data_of_every_length_in_every_form() {
    for format in FORMATS {
        for algorithm in ALGORITHMS {
            let (mut client, mut server) = End::pair(format, algorithm);
            for length in [1, 2, 15, 16, 17, 64, 1000, 16_383, 16_384] {
                let plain: Vec<u8> = (0..length).map(|i| i as u8).collect();
                let record = client.seal(&plain).unwrap();
                assert_eq!(record.len(), format.head() + length + format.tail());
                let end = record.len();
                let (opened, data) = server.open(record).unwrap();
                let start = format.head();
                let expected = Opened::Data {
                    consumed: end,
                    plain: start..start + length,
                };
                assert_eq!((opened, data), (expected, plain));
            }
            assert_eq!((client.out.len(), server.out.len()), (0, 0));
        }
    }
}

/// The plaintext lies where its record was sealed, and a record is sealed where its plaintext lay.
#[test]
fn nothing_is_moved() {
    for format in FORMATS {
        let (mut client, mut server) = End::of(format);
        let framing = client.records.framing();
        let mut block = vec![0xee; 1000];
        let place = 200..300;
        block[place.clone()].copy_from_slice(&[7; 100]);
        let mut range = place.clone();
        client
            .records
            .seal(&mut client.scratch, &mut block, &mut range)
            .unwrap();
        assert_eq!(
            range,
            200 - format.head()..300 + format.tail(),
            "only what is sealed is given"
        );
        assert!(framing.head >= format.head() && framing.tail == format.tail());
        assert!(block[..range.start].iter().all(|byte| *byte == 0xee));
        assert!(block[range.end..].iter().all(|byte| *byte == 0xee));
        let sealed = &mut block[range];
        let opened = server
            .records
            .open(&mut server.scratch, sealed, &mut server.out)
            .unwrap();
        let Opened::Data { plain, .. } = opened else {
            panic!("{opened:?}");
        };
        assert_eq!(plain.start, format.head());
        assert_eq!(block[place], [7; 100]);
        assert_eq!(client.scratch.bytes_copied() + server.scratch.bytes_copied(), 0);
    }
}

/// RFC 8446 section 5.4.
#[test]
fn padding_is_removed() {
    let (mut client, mut server) = End::of(Format::Tls13);
    for padding in [1, 2, 100, 10_000] {
        let record = client.forge_padded(APPLICATION_DATA, b"\0padded\0", padding);
        assert_eq!(server.open(record).unwrap().1, b"\0padded\0");
    }
    let record = client.forge_padded(APPLICATION_DATA, b"", 100);
    assert!(nothing(server.open(record).unwrap()));
    // Nothing but padding is no record.
    let record = client.forge_padded(0, b"", 100);
    assert_eq!(server.refusal(record, &mut client), 10);
    // The padding counts: 2^14 bytes and the type are the most.
    let (mut client, mut server) = End::of(Format::Tls13);
    let record = client.forge_padded(APPLICATION_DATA, &[1; 16_000], 384);
    assert_eq!(server.open(record).unwrap().1.len(), 16_000);
    let record = client.forge_padded(APPLICATION_DATA, &[1; 16_000], 385);
    assert_eq!(server.refusal(record, &mut client), 22);
}

/// RFC 8446 section 6.1: close_notify, whatever its level says; the other direction stays open.
#[test]
fn close_notify_closes_one_direction() {
    for format in FORMATS {
        let (mut client, mut server) = End::of(format);
        client.records.close_notify(&mut client.out).unwrap();
        let record = std::mem::take(&mut client.out);
        let consumed = record.len();
        assert_eq!(server.open(record).unwrap().0, Opened::Closed { consumed });
        let record = server.seal(b"half").unwrap();
        assert_eq!(client.open(record).unwrap().1, b"half");
        let record = server.forge(ALERT, &[FATAL, 0]);
        assert!(matches!(client.open(record).unwrap().0, Opened::Closed { .. }));
    }
}

#[test]
fn alerts() {
    for format in FORMATS {
        let (mut client, mut server) = End::of(format);
        // user_canceled says that close_notify will follow.
        let record = server.forge(ALERT, &[WARNING, 90]);
        assert!(nothing(client.open(record).unwrap()));
        let record = server.forge(ALERT, &[FATAL, 48]);
        let error = client.open(record).unwrap_err();
        assert_eq!(*error.reason(), Reason::ClientCertUnknownCa);
        assert_eq!((error.refused_by_us(), client.out.len()), (false, 0));
        // RFC 8446 section 6: in TLS 1.3 the level is no excuse; RFC 5246 section 7.2.2: in TLS 1.2 it is.
        let (mut client, mut server) = End::of(format);
        let record = server.forge(ALERT, &[WARNING, 41]);
        assert_eq!(client.open(record).is_ok(), format.is_tls12());
        for (content, alert) in [(&[][..], 10), (&[FATAL], 50), (&[FATAL, 40, FATAL, 40], 50)] {
            let (mut client, mut server) = End::of(format);
            let record = server.forge(ALERT, content);
            assert_eq!(client.refusal(record, &mut server), alert);
        }
    }
}

/// A session has two expanded keys at most, and takes them along when it is released.
#[test]
fn expanded_keys_go_with_their_session() {
    for format in FORMATS {
        let (mut client, mut server) = End::of(format);
        assert_eq!(
            (client.scratch.keys_bytes(), client.scratch.keys_expanded()),
            (0, 0)
        );
        for _ in 0..100 {
            let record = client.seal(b"there").unwrap();
            server.open(record).unwrap();
            let record = server.seal(b"and back").unwrap();
            client.open(record).unwrap();
        }
        assert_eq!(client.scratch.keys_expanded(), 2);
        let in_use = client.scratch.keys_bytes();
        client.records.release(&mut client.scratch);
        assert_eq!(in_use - client.scratch.keys_bytes(), 2 * 608);
    }
}

/// Many sessions with room for the keys of one: each is expanded anew, and all goes on as it should.
#[test]
fn sessions_share_a_small_scratch() {
    let mut ends: Vec<_> = (0..5).map(|_| End::of(Format::Tls13)).collect();
    let mut scratch = Scratch::with_keys_max(1);
    for round in 0..20_u8 {
        for (client, server) in &mut ends {
            std::mem::swap(&mut client.scratch, &mut scratch);
            let record = client.seal(&[round; 30]).unwrap();
            std::mem::swap(&mut client.scratch, &mut scratch);
            std::mem::swap(&mut server.scratch, &mut scratch);
            assert_eq!(server.open(record).unwrap().1, [round; 30]);
            std::mem::swap(&mut server.scratch, &mut scratch);
        }
    }
    assert_eq!(scratch.keys_expanded(), 200);
    assert!(scratch.keys_bytes() < 700);
}
