//! What the tests of the authority share: keys, authorities, and signing requests as nobody's tool would write them.

mod crl;
mod csr;
mod issue;
mod issuer;
mod key_file;
mod names;

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use signet_identity::{NameRule, ThingName};
use webpki::{EndEntityCert, KeyUsage, RevocationOptions};

use super::*;
use crate::Wall;

/// 2026-01-01 00:00:00 UTC.
const NOW: Wall = Wall(1_767_225_600_000);
const DAY: Duration = Duration::from_secs(86_400);

fn thing(name: &str) -> ThingName {
    ThingName::new(name, &NameRule::default()).unwrap()
}

fn signer() -> Arc<KeySigner> {
    Arc::new(KeySigner::generate(NewKey::P256).unwrap())
}

fn device_key() -> PublicKey {
    DeviceKey::generate().unwrap().public
}

fn root() -> Issuer {
    let signer = signer();
    let name = AuthorityName::try_from("Test Root").unwrap();
    let made = make_root(&name, &*signer, 3650 * DAY, NOW, random_serial().unwrap()).unwrap();
    Issuer::load(&made.der, signer, NOW).unwrap()
}

fn below(root: &Issuer, validity: Duration) -> Issuer {
    let signer = signer();
    let name = AuthorityName::try_from("Test Issuing").unwrap();
    let made = make_issuing(root, signer.public_key(), &name, validity, None, NOW, random_serial().unwrap())
        .unwrap();
    Issuer::load(made.pem().as_bytes(), signer, NOW).unwrap()
}

fn issued_by(issuer: &Issuer) -> Issued {
    issue(issuer, &device_key(), &thing("sensor-001"), &Profile::default(), NOW, random_serial().unwrap())
        .unwrap()
}

/// Verifies `leaf` as a client's certificate by an implementation that is not the one that made it.
fn verify(
    leaf: &[u8],
    intermediates: &[&Issuer],
    root: &Issuer,
    at: Wall,
    revocation: Option<RevocationOptions<'_>>,
) -> Result<(), webpki::Error> {
    let leaf = CertificateDer::from(leaf);
    let root = CertificateDer::from(root.certificate_der());
    let intermediates: Vec<_> =
        intermediates.iter().map(|one| CertificateDer::from(one.certificate_der())).collect();
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[webpki::anchor_from_trusted_cert(&root)?],
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_millis(at.0)),
            KeyUsage::client_auth(),
            revocation,
            None,
        )
        .map(|_| ())
}

/// One DER value.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut out = vec![tag];
    match content.len() {
        0..0x80 => out.push(len[3]),
        0x80..0x100 => out.extend([0x81, len[3]]),
        0x100..0x1_0000 => out.extend([0x82, len[2], len[3]]),
        _ => out.extend([0x83, len[1], len[2], len[3]]),
    }
    out.extend(content);
    out
}

fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, parts)
}

fn oid(content: &[u8]) -> Vec<u8> {
    tlv(6, &[content])
}

const CN: &[u8] = &[0x55, 4, 3];
const SHA256_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
