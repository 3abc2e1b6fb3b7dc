//! The key schedule of TLS 1.3 (HKDF, RFC 5869) as rustls has it over HMAC, with the HMAC of aws-lc.
//!
//! rustls' provider for aws-lc calls that library's HKDF, which keeps salt and secret, and extracts anew for each of the dozen
//! keys that are expanded from them. Here each is extracted once, and the hashed key serves for all that is expanded from it.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::hmac::{Hmac, Key, Tag};
use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::{CipherSuiteCommon, SupportedCipherSuite, Tls13CipherSuite};

static SHA256: Hash = Hash(hmac::HMAC_SHA256);
static SHA384: Hash = Hash(hmac::HMAC_SHA384);
static HKDF_SHA256: HkdfUsingHmac<'static> = HkdfUsingHmac(&SHA256);
static HKDF_SHA384: HkdfUsingHmac<'static> = HkdfUsingHmac(&SHA384);

static AES_128: LazyLock<Option<Tls13CipherSuite>> =
    LazyLock::new(|| with(cipher_suite::TLS13_AES_128_GCM_SHA256, &HKDF_SHA256));
static CHACHA20: LazyLock<Option<Tls13CipherSuite>> =
    LazyLock::new(|| with(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, &HKDF_SHA256));
static AES_256: LazyLock<Option<Tls13CipherSuite>> =
    LazyLock::new(|| with(cipher_suite::TLS13_AES_256_GCM_SHA384, &HKDF_SHA384));

/// The cipher suites of TLS 1.3: AES-128-GCM, ChaCha20-Poly1305, AES-256-GCM.
pub(super) fn tls13_suites() -> impl Iterator<Item = SupportedCipherSuite> {
    [&AES_128, &CHACHA20, &AES_256]
        .into_iter()
        .filter_map(|suite| suite.as_ref())
        .map(SupportedCipherSuite::Tls13)
}

/// The suite with this key schedule.
fn with(
    suite: SupportedCipherSuite,
    hkdf_provider: &'static HkdfUsingHmac<'static>,
) -> Option<Tls13CipherSuite> {
    let suite = suite.tls13()?;
    let CipherSuiteCommon { suite: number, hash_provider, confidentiality_limit } = suite.common;
    Some(Tls13CipherSuite {
        common: CipherSuiteCommon { suite: number, hash_provider, confidentiality_limit },
        hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: None,
    })
}

/// HMAC with one hash.
struct Hash(hmac::Algorithm);

impl Hmac for Hash {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(Hashed(hmac::Key::new(self.0, key)))
    }

    fn hash_output_len(&self) -> usize {
        self.0.digest_algorithm().output_len()
    }
}

/// A key, hashed once.
struct Hashed(hmac::Key);

impl Key for Hashed {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(first);
        middle.iter().for_each(|part| context.update(part));
        context.update(last);
        Tag::new(context.sign().as_ref())
    }

    fn tag_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::tls13::Hkdf as _;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn expanded(
        hkdf: &HkdfUsingHmac<'_>,
        salt: Option<&[u8]>,
        secret: &[u8],
        info: &[&[u8]],
        len: usize,
    ) -> String {
        let mut out = vec![0; len];
        hkdf.extract_from_secret(salt, secret).expand_slice(info, &mut out).unwrap();
        hex(&out)
    }

    #[test]
    fn the_examples_of_rfc_5869_give_what_they_should() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let (head, tail) = info.split_at(3);
        assert_eq!(
            expanded(&HKDF_SHA256, Some(&salt), &[0x0b; 22], &[head, tail], 42),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
        assert_eq!(
            expanded(&HKDF_SHA256, None, &[0x0b; 22], &[], 42),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
    }

    #[test]
    fn every_secret_is_the_one_that_the_library_itself_derives() {
        let suites = [
            (cipher_suite::TLS13_AES_128_GCM_SHA256, &HKDF_SHA256),
            (cipher_suite::TLS13_AES_256_GCM_SHA384, &HKDF_SHA384),
        ];
        for (suite, ours) in suites {
            let theirs = suite.tls13().unwrap().hkdf_provider;
            let info: &[&[u8]] = &[b"tls13 ", b"derived", &[7; 48]];
            for (ours, theirs) in [
                (ours.extract_from_zero_ikm(None), theirs.extract_from_zero_ikm(None)),
                (
                    ours.extract_from_secret(Some(&[1; 48]), &[2; 32]),
                    theirs.extract_from_secret(Some(&[1; 48]), &[2; 32]),
                ),
            ] {
                let (our_block, their_block) = (ours.expand_block(info), theirs.expand_block(info));
                assert_eq!(our_block.as_ref(), their_block.as_ref());
                let (again, theirs_again) = (ours.expand_block(&[]), theirs.expand_block(&[]));
                assert_eq!(again.as_ref(), theirs_again.as_ref());
            }
            let key = ours.extract_from_zero_ikm(None).expand_block(info);
            assert_eq!(ours.hmac_sign(&key, b"m").as_ref(), theirs.hmac_sign(&key, b"m").as_ref());
        }
    }

    #[test]
    fn there_are_three_suites_in_our_order() {
        let suites: Vec<_> = tls13_suites().map(|suite| suite.suite()).collect();
        let expected = [
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ];
        assert_eq!(suites, expected.map(|suite| suite.suite()));
    }
}
