//! What EST sends and takes, as bytes: certs-only PKCS #7, attributes, and base64 as clients write and read it.

use std::num::NonZeroU8;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signet_registry::ca::KeyKind;
use yasna::models::ObjectIdentifier;
use yasna::{Tag, construct_der};

/// PKCS #7 signedData and data (RFC 5652 sections 4 and 5).
const SIGNED_DATA: [u64; 7] = [1, 2, 840, 113_549, 1, 7, 2];
const DATA: [u64; 7] = [1, 2, 840, 113_549, 1, 7, 1];
/// id-ecPublicKey and its curves (RFC 5480 section 2.1.1), and the signatures that go with them (RFC 5758 section 3.2).
const EC_PUBLIC_KEY: [u64; 6] = [1, 2, 840, 10_045, 2, 1];
const P256: [u64; 7] = [1, 2, 840, 10_045, 3, 1, 7];
const P384: [u64; 5] = [1, 3, 132, 0, 34];
const ECDSA_SHA256: [u64; 7] = [1, 2, 840, 10_045, 4, 3, 2];
const ECDSA_SHA384: [u64; 7] = [1, 2, 840, 10_045, 4, 3, 3];

/// A certs-only message (RFC 5751 section 3.7): SignedData without data and signers, with these certificates in DER.
pub(super) fn certs_only<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|content| {
            content.next().write_oid(&oid(&SIGNED_DATA));
            content.next().write_tagged(Tag::context(0), |writer| {
                writer.write_sequence(|signed| {
                    signed.next().write_u8(1);
                    signed.next().write_set(|_digests| {});
                    signed.next().write_sequence(|encapsulated| encapsulated.next().write_oid(&oid(&DATA)));
                    signed.next().write_tagged_implicit(Tag::context(0), |writer| {
                        writer.write_set_of(|set| {
                            for der in certificates {
                                set.next().write_der(der);
                            }
                        });
                    });
                    signed.next().write_set(|_signers| {});
                });
            });
        });
    })
}

/// The attributes of a request for a key of this kind (RFC 7030 section 4.5.2); there are none to name for others.
pub(super) fn csr_attributes(kind: KeyKind) -> Option<Vec<u8>> {
    let (curve, signature): (&[u64], &[u64]) = match kind {
        KeyKind::P256 => (&P256, &ECDSA_SHA256),
        KeyKind::P384 => (&P384, &ECDSA_SHA384),
        KeyKind::P521 | KeyKind::Ed25519 | KeyKind::Rsa(_) => return None,
    };
    Some(construct_der(|writer| {
        writer.write_sequence(|attributes| {
            attributes.next().write_sequence(|key| {
                key.next().write_oid(&oid(&EC_PUBLIC_KEY));
                key.next().write_set(|values| values.next().write_oid(&oid(curve)));
            });
            attributes.next().write_oid(&oid(signature));
        });
    }))
}

fn oid(components: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(components)
}

/// Base64, on lines of so many characters with a line feed after each, or on one without.
pub(super) fn base64(der: &[u8], columns: Option<NonZeroU8>) -> String {
    let text = STANDARD.encode(der);
    let Some(columns) = columns.map(|columns| usize::from(columns.get())) else { return text };
    let mut lines = String::with_capacity(text.len() + text.len() / columns + 1);
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % columns == 0 {
            lines.push('\n');
        }
        lines.push(c);
    }
    lines.push('\n');
    lines
}

/// The PEM or DER of a signing request, out of a body that is base64 of DER, PEM, or DER. `None` when it is none of these.
pub(super) fn signing_request(body: &[u8]) -> Option<Vec<u8>> {
    let text = body.trim_ascii();
    // PEM has its armour, DER begins with a SEQUENCE of a length that needs more bytes, and no base64 looks like these.
    if text.starts_with(b"-----BEGIN ") || matches!(body, [0x30, 0x80..=0x84, ..]) {
        return Some(body.to_vec());
    }
    let packed: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).ok().filter(|der| !der.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate, and what is around it in what `openssl crl2pkcs7 -nocrl -certfile FILE -outform DER` makes of it.
    const CERTIFICATE: &str = "MIIBmzCCAUCgAwIBAgIRAMn35Zgh3A+3DP+bggrSsOYwCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwOU2lnbmV0IFJvb3QgQ0EwHhcN\
            MjYxMTIwMDQxNjAwWhcNMzYxMTE4MDQxNjAwWjAcMRowGAYDVQQDDBFTaWduZXQgSXNzdWluZyBDQTBZMBMGByqGSM49AgEGCCqG\
            SM49AwEHA0IABAVksDZpKQDZWWM2dTMGYd8QLRIhRpjer7EXZzS8+m1Y7r4DyqcauF3O/+SHDID6u2Y1QfYy9N99VOHrWRg8NW6j\
            ZjBkMB8GA1UdIwQYMBaAFOYgqi1f+Lw3zc9cN/o3lqKzNExvMA4GA1UdDwEB/wQEAwIBBjAdBgNVHQ4EFgQUMAprIN449IpfOpzj\
            496HBn1JuoQwEgYDVR0TAQH/BAgwBgEB/wIBADAKBggqhkjOPQQDAgNJADBGAiEAo9ENiccQeyUKsUMevxTGGa95yb5jwiuXnit3\
            R6FIJfMCIQCCb7C9zwemK5LwKp9RPnvHRpgSPDxnilV16LV1sImEpA==";
    const BEFORE: [u8; 45] = [
        0x30, 0x82, 0x01, 0xca, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x82,
        0x01, 0xbb, 0x30, 0x82, 0x01, 0xb7, 0x02, 0x01, 0x01, 0x31, 0x00, 0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86,
        0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01, 0xa0, 0x82, 0x01, 0x9f,
    ];
    const AFTER: [u8; 2] = [0x31, 0x00];

    #[test]
    fn certificates_come_in_the_bytes_that_openssl_writes() {
        let certificate = STANDARD.decode(CERTIFICATE).unwrap();
        let expected = [&BEFORE, certificate.as_slice(), &AFTER].concat();
        assert_eq!(certs_only(std::iter::once(certificate.as_slice())), expected);
    }

    #[test]
    fn the_attributes_name_the_curve_and_the_signature_that_goes_with_it() {
        let der = csr_attributes(KeyKind::P256).unwrap();
        assert_eq!(
            der,
            [
                0x30, 0x21, 0x30, 0x15, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x31, 0x0a,
                0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x06, 0x08, 0x2a, 0x86, 0x48,
                0xce, 0x3d, 0x04, 0x03, 0x02
            ]
        );
        assert_eq!(csr_attributes(KeyKind::Ed25519), None);
    }

    #[test]
    fn base64_is_one_line_or_lines_of_the_wanted_length() {
        let der = [7u8; 100];
        let one = base64(&der, None);
        assert!(!one.contains('\n'));
        let lines = base64(&der, NonZeroU8::new(64));
        assert!(lines.ends_with('\n') && lines.lines().all(|line| line.len() <= 64));
        assert_eq!(lines.lines().map(str::len).collect::<Vec<_>>(), [64, 64, 8]);
        assert_eq!(lines.replace('\n', ""), one);
    }

    #[test]
    fn a_request_is_read_as_clients_write_it() {
        let der = [0x30, 0x82, 0x01, 0x00, 9, 9, 9];
        assert_eq!(signing_request(&der).unwrap(), der);
        for columns in [None, NonZeroU8::new(4), NonZeroU8::new(76)] {
            let text = base64(&der, columns);
            assert_eq!(signing_request(text.as_bytes()).unwrap(), der);
            assert_eq!(
                signing_request(format!("\r\n {}", text.replace('\n', "\r\n")).as_bytes()).unwrap(),
                der
            );
        }
        let pem = b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(signing_request(pem).unwrap(), pem);
        for wrong in [&b""[..], b"  \n", b"not base64!", b"MAA", b"{\"csr\": \"MAA=\"}"] {
            assert_eq!(signing_request(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }
}
