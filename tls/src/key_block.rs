//! TLS 1.2's key block (RFC 5246 section 6.3), derived once for each connection.
//!
//! rustls derives it for its own record protection, and a second time when it hands the keys over, which takes a fiftieth of
//! a handshake. Both times it asks the PRF of the cipher suite, which is the same object for all connections. So the
//! suites here have a PRF that keeps the key block for the connection that is at work on this thread, and gives it again
//! when the same question is asked.

use std::{cell::Cell, sync::LazyLock};

use rustls::{
    CipherSuite, CipherSuiteCommon, Error, SupportedCipherSuite, Tls12CipherSuite,
    crypto::{ActiveKeyExchange, aws_lc_rs::ALL_CIPHER_SUITES, tls12::Prf},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A key block, with the question that it is the answer to. It is filled in where it lies and never moved.
pub(crate) struct KeyBlock {
    suite: CipherSuite,
    master_secret: [u8; MASTER_SECRET_LEN],
    randoms: [u8; RANDOMS_LEN],
    block: [u8; BLOCK_LEN_MAX],
    block_len: usize,
}

/// Whose key block is kept on this thread.
#[derive(Default)]
enum AtWork {
    #[default]
    Nobody,
    Connection(Option<Box<KeyBlock>>),
}

thread_local! {
    static AT_WORK: Cell<AtWork> = const { Cell::new(AtWork::Nobody) };
}

/// Lets rustls work for one connection, whose `key_block` is filled when it is derived and asked when it is needed again.
/// Nothing of it stays behind on the thread.
pub(crate) fn keeping<R>(key_block: &mut Option<Box<KeyBlock>>, run: impl FnOnce() -> R) -> R {
    AT_WORK.set(AtWork::Connection(key_block.take()));
    let answer = run();
    if let AtWork::Connection(kept) = AT_WORK.take() {
        *key_block = kept;
    }
    answer
}

/// The suite with a PRF that keeps key blocks; TLS 1.3's as they are.
pub(crate) fn keeping_suite(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let keeping = SUITES
        .iter()
        .find(|keeping| keeping.common.suite == suite.suite());
    keeping.map_or(suite, SupportedCipherSuite::Tls12)
}

static SUITES: LazyLock<Vec<Tls12CipherSuite>> = LazyLock::new(|| {
    let keeping = |(suite, prf): (&'static Tls12CipherSuite, &'static KeepingPrf)| Tls12CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        prf_provider: prf,
        kx: suite.kx,
        sign: suite.sign,
        aead_alg: suite.aead_alg,
    };
    tls12_suites().zip(PRFS.iter()).map(keeping).collect()
});

static PRFS: LazyLock<Vec<KeepingPrf>> = LazyLock::new(|| {
    let keeping = |suite: &'static Tls12CipherSuite| KeepingPrf {
        suite: suite.common.suite,
        inner: suite.prf_provider,
    };
    tls12_suites().map(keeping).collect()
});

fn tls12_suites() -> impl Iterator<Item = &'static Tls12CipherSuite> {
    ALL_CIPHER_SUITES.iter().filter_map(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) => Some(*suite),
        SupportedCipherSuite::Tls13(_) => None,
    })
}

struct KeepingPrf {
    suite: CipherSuite,
    inner: &'static dyn Prf,
}

impl Prf for KeepingPrf {
    fn for_key_exchange(
        &self,
        output: &mut [u8; MASTER_SECRET_LEN],
        kx: Box<dyn ActiveKeyExchange>,
        peer_pub_key: &[u8],
        label: &[u8],
        seed: &[u8],
    ) -> Result<(), Error> {
        self.inner.for_key_exchange(output, kx, peer_pub_key, label, seed)
    }

    fn for_secret(&self, output: &mut [u8], secret: &[u8], label: &[u8], seed: &[u8]) {
        let kept = match AT_WORK.take() {
            AtWork::Connection(kept) if label == KEY_EXPANSION => kept,
            at_work => {
                AT_WORK.set(at_work);
                return self.inner.for_secret(output, secret, label, seed);
            }
        };
        let known = kept
            .as_ref()
            .and_then(|kept| kept.answer(self.suite, secret, seed, output.len()));
        let kept = if let Some(block) = known {
            output.copy_from_slice(block);
            kept
        } else {
            self.inner.for_secret(output, secret, label, seed);
            KeyBlock::new(self.suite, secret, seed, output)
        };
        AT_WORK.set(AtWork::Connection(kept));
    }

    fn fips(&self) -> bool {
        self.inner.fips()
    }
}

impl KeyBlock {
    /// `None` if it is of another form than TLS 1.2 has.
    fn new(suite: CipherSuite, secret: &[u8], seed: &[u8], block: &[u8]) -> Option<Box<Self>> {
        if secret.len() != MASTER_SECRET_LEN || seed.len() != RANDOMS_LEN {
            return None;
        }
        let mut kept = Box::new(Self {
            suite,
            master_secret: [0; MASTER_SECRET_LEN],
            randoms: [0; RANDOMS_LEN],
            block: [0; BLOCK_LEN_MAX],
            block_len: block.len(),
        });
        kept.master_secret.copy_from_slice(secret);
        kept.randoms.copy_from_slice(seed);
        kept.block.get_mut(..block.len())?.copy_from_slice(block);
        Some(kept)
    }

    /// The key block, if it is the one that is asked for.
    fn answer(&self, suite: CipherSuite, secret: &[u8], seed: &[u8], length: usize) -> Option<&[u8]> {
        let is_it = self.suite == suite
            && self.master_secret == *secret
            && self.randoms == *seed
            && self.block_len == length;
        is_it.then(|| self.block.get(..length))?
    }
}

impl Zeroize for KeyBlock {
    fn zeroize(&mut self) {
        self.master_secret.zeroize();
        self.randoms.zeroize();
        self.block.zeroize();
    }
}

impl Drop for KeyBlock {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for KeyBlock {}

/// RFC 5246 section 6.3.
const KEY_EXPANSION: &[u8] = b"key expansion";
/// RFC 5246 section 8.1.
const MASTER_SECRET_LEN: usize = 48;
/// The server's and the client's, 32 bytes each.
const RANDOMS_LEN: usize = 64;
/// Two keys of 32 bytes and two IVs of 12: ChaCha20-Poly1305 (RFC 7905 section 2).
const BLOCK_LEN_MAX: usize = 2 * (32 + 12);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Answers how often it was asked.
    struct Counting(AtomicU8);

    impl Prf for Counting {
        fn for_key_exchange(
            &self,
            _: &mut [u8; MASTER_SECRET_LEN],
            _: Box<dyn ActiveKeyExchange>,
            _: &[u8],
            _: &[u8],
            _: &[u8],
        ) -> Result<(), Error> {
            Err(Error::HandshakeNotComplete)
        }

        fn for_secret(&self, output: &mut [u8], _: &[u8], _: &[u8], _: &[u8]) {
            output.fill(1 + self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn prf(suite: CipherSuite) -> KeepingPrf {
        KeepingPrf {
            suite,
            inner: Box::leak(Box::new(Counting(AtomicU8::new(0)))),
        }
    }

    fn ask(prf: &KeepingPrf, secret: &[u8], label: &[u8], seed: &[u8], length: usize) -> u8 {
        let mut output = vec![0; length];
        prf.for_secret(&mut output, secret, label, seed);
        assert!(output.iter().all(|byte| *byte == output[0]));
        output[0]
    }

    #[test]
    fn only_the_same_question_of_the_same_connection_is_answered_from_memory() {
        let prf = prf(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
        let (secret, randoms) = ([1; MASTER_SECRET_LEN], [2; RANDOMS_LEN]);
        let (mut one, mut other) = (None, None);
        let ask_key_block =
            |secret: &[u8], randoms: &[u8], length| ask(&prf, secret, KEY_EXPANSION, randoms, length);
        assert_eq!(keeping(&mut one, || ask_key_block(&secret, &randoms, 80)), 1);
        // Another connection finds nothing, and neither does whoever is nobody's.
        assert_eq!(keeping(&mut other, || ask_key_block(&secret, &randoms, 80)), 2);
        assert_eq!(ask_key_block(&secret, &randoms, 80), 3);
        assert_eq!(keeping(&mut one, || ask_key_block(&secret, &randoms, 80)), 1);
        assert_eq!(keeping(&mut other, || ask_key_block(&secret, &randoms, 80)), 2);
        // Other questions.
        assert_eq!(
            keeping(&mut one, || ask(&prf, &secret, b"client finished", &randoms, 80)),
            4
        );
        assert_eq!(keeping(&mut one, || ask_key_block(&secret, &randoms, 80)), 1);
        assert_eq!(
            keeping(&mut one, || ask_key_block(&[3; MASTER_SECRET_LEN], &randoms, 80)),
            5
        );
        assert_eq!(
            keeping(&mut one, || ask_key_block(&secret, &[3; RANDOMS_LEN], 80)),
            6
        );
        assert_eq!(
            keeping(&mut one, || ask_key_block(&secret, &[3; RANDOMS_LEN], 81)),
            7
        );
        // Of a form that is not kept.
        for _ in 0..2 {
            let first = keeping(&mut one, || ask_key_block(&secret, &randoms, BLOCK_LEN_MAX + 1));
            let second = keeping(&mut one, || ask_key_block(&secret[1..], &randoms, 80));
            assert_eq!(second, first + 1);
        }
        assert!(one.is_none());
    }

    #[test]
    fn a_key_block_of_another_suite_is_another() {
        let (secret, randoms) = ([1; MASTER_SECRET_LEN], [2; RANDOMS_LEN]);
        let one = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
        let kept = KeyBlock::new(one, &secret, &randoms, &[3; 80]).unwrap();
        assert_eq!(kept.answer(one, &secret, &randoms, 80), Some(&[3; 80][..]));
        let other = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        assert_eq!(kept.answer(other, &secret, &randoms, 80), None);
    }

    /// All of TLS 1.2, and the rest as it is.
    #[test]
    fn suites() {
        for suite in ALL_CIPHER_SUITES {
            let kept = keeping_suite(*suite);
            assert_eq!(kept.suite(), suite.suite());
            match (kept, suite) {
                (SupportedCipherSuite::Tls12(kept), SupportedCipherSuite::Tls12(suite)) => {
                    assert!(!std::ptr::eq(kept, *suite));
                }
                (kept, suite) => assert!(kept.tls13().is_some() && suite.tls13().is_some()),
            }
        }
    }

    #[test]
    fn key_blocks_are_zeroized() {
        fn on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let suite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
        let mut kept = KeyBlock::new(suite, &[1; 48], &[2; 64], &[3; 88]).unwrap();
        on_drop(&*kept);
        kept.zeroize();
        assert_eq!(
            (kept.master_secret, kept.randoms, kept.block),
            ([0; 48], [0; 64], [0; 88])
        );
    }
}
