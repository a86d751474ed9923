//! Bytes that are sealed already: where they stand in the stream.

use super::*;

#[test]
fn the_handshake_ends_and_records_begin() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(Framing::PLAIN, BYTES_MAX);
    output.append_raw(&mut pool, b"hello ").unwrap();
    output.append_raw(&mut pool, b"finished ").unwrap();
    output.set_framing(TLS);
    write(&mut pool, &mut output, b"connect").unwrap();
    let mut peer = Peer::default();
    assert!(peer.take(&mut pool, &mut output));
    assert_eq!(peer.bytes, b"hello finished ");
    assert!(peer.take(&mut pool, &mut output));
    assert_eq!(
        (&peer.bytes[..], peer.records),
        (&b"hello finished connect"[..], 1)
    );
    assert!(!peer.take(&mut pool, &mut output));
}

#[test]
fn a_record_that_is_sealed_already_overtakes_unsealed_plaintext() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    for _ in 0..3 {
        write(&mut pool, &mut output, &[b'p'; 4000]).unwrap();
    }
    output.append_raw(&mut pool, b"key update, ").unwrap();
    output.append_raw(&mut pool, b"alert").unwrap();
    assert_eq!(output.len(), 12_017);
    let mut peer = Peer::default();
    while peer.take(&mut pool, &mut output) {}
    assert!(peer.bytes.starts_with(b"key update, alertppp"));
    assert_eq!((peer.bytes.len(), peer.records), (12_017, 2));
    assert_eq!(pool.stats().blocks_in_use, 0);
}

#[test]
fn no_raw_bytes_take_no_block() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    write(&mut pool, &mut output, b"plaintext").unwrap();
    output.append_raw(&mut pool, b"").unwrap();
    assert_eq!(pool.stats().blocks_in_use, 1);
    let mut peer = Peer::default();
    assert!(peer.take(&mut pool, &mut output));
    assert_eq!((&peer.bytes[..], peer.records), (&b"plaintext"[..], 1));
    assert_eq!(pool.stats().blocks_in_use, 0);
}

#[test]
fn raw_bytes_do_not_overtake_raw_bytes() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(Framing::PLAIN, BYTES_MAX);
    output.append_raw(&mut pool, b"finished, ").unwrap();
    output.set_framing(TLS);
    write(&mut pool, &mut output, b"connect").unwrap();
    output.append_raw(&mut pool, b"key update, ").unwrap();
    let mut peer = Peer::default();
    while peer.take(&mut pool, &mut output) {}
    assert_eq!(peer.bytes, b"finished, key update, connect");
}
