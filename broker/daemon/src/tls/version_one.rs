//! Certificates of X.509 version 1, which webpki, and so rustls, does not read.
//!
//! Such a certificate has no extensions: nothing says what it is for or that it is no authority's. So it is only
//! ever a leaf, and its path has one step: a trust anchor of its issuer's name whose key signed it. There is no
//! way to have webpki validate the rest of a longer path without the leaf. The algorithms of signatures and keys,
//! validity, and the proof that the peer has the key are the same as for version 3.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use signet_identity::common_name_in;
use webpki::RawPublicKeyEntity;
use x509_parser::asn1_rs::{Any, Header};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use super::anchor::Anchor;
use super::cache::VerifiedPath;
use super::options::X509V1;
use super::provider::CLIENT_SIGNATURES;
use super::trust::{Trust, escaped};
use super::verifier::{check_policy, narrow, outside, parse, path_id, unparsable};
use super::{VerifyFailure, Which};

/// The tag of a serial number.
const INTEGER: u8 = 0x02;

/// Whether a certificate says that it is of version 1, by beginning with its serial number: the version is left
/// out then (X.690, 11.5; RFC 5280, 4.1).
pub(super) fn is_one(certificate: &CertificateDer<'_>) -> bool {
    let inside = Header::from_der(certificate).and_then(|(content, _)| Header::from_der(content));
    inside.is_ok_and(|(to_be_signed, _)| to_be_signed.first() == Some(&INTEGER))
}

/// The key of a certificate of version 1; `None` for any other, and for one that cannot be read.
pub(super) fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'a>> {
    let parsed = is_one(certificate).then(|| parse(certificate).ok())??;
    Some(SubjectPublicKeyInfoDer::from(parsed.tbs_certificate.subject_pki.raw))
}

/// As [`rustls::crypto::verify_tls12_signature`], for version 1 as well.
pub(super) fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let Some(key) = public_key(certificate) else {
        return rustls::crypto::verify_tls12_signature(message, certificate, dss, algorithms);
    };
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
    let fitting = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
    // An algorithm for a key of another kind or curve fails, and the next one is tried.
    let valid = fitting
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| key.verify_signature(*algorithm, message, dss.signature()).is_ok());
    valid.then(HandshakeSignatureValid::assertion).ok_or_else(bad)
}

/// As [`rustls::crypto::verify_tls13_signature`], for version 1 as well.
pub(super) fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    match public_key(certificate) {
        Some(key) => verify_tls13_signature_with_raw_key(message, &key, dss, algorithms),
        None => rustls::crypto::verify_tls13_signature(message, certificate, dss, algorithms),
    }
}

/// Validates a client's certificate for which [`is_one`] holds. The hashes of the result are the caller's to fill
/// in.
pub(super) fn validate(
    trust: &Trust,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: i64,
) -> Result<VerifiedPath, VerifyFailure> {
    if trust.options().x509_v1 == X509V1::Refuse {
        return Err(VerifyFailure::VersionOne);
    }
    let parsed = parse(leaf)?;
    let algorithm = check_form(leaf, &parsed)?;
    let mut window = (i64::MIN, i64::MAX);
    narrow(&mut window, &parsed);
    if now < window.0 || now > window.1 {
        return Err(outside(Which::Leaf, window.0, window.1, now));
    }
    let anchor = find_issuer(trust, &parsed, algorithm, intermediates)?;
    if now < anchor.not_before || now > anchor.not_after {
        return Err(outside(Which::Authority, anchor.not_before, anchor.not_after, now));
    }
    let has_eku = check_policy(&parsed, trust.options().eku)?;
    Ok(VerifiedPath {
        leaf: [0; 32],
        chain: [0; 32],
        anchors: trust.anchors_hash(),
        not_before: window.0.max(anchor.not_before),
        not_after: window.1.min(anchor.not_after),
        authorities_until: anchor.not_after,
        usable_until: window.1.min(anchor.not_after),
        anchor: anchor.id,
        has_eku,
        version_one: true,
        ids: Box::new([path_id(anchor.key, parsed.raw_serial(), Which::Leaf)?]),
        common_name: common_name_in(&parsed),
    })
}

/// Checks that nothing is there that version 1 does not have, and that the two places that name the signature's
/// algorithm agree (RFC 5280, 4.1.1.2). Returns the content of the algorithm's identifier.
fn check_form<'a>(
    leaf: &'a CertificateDer<'_>,
    parsed: &X509Certificate<'_>,
) -> Result<&'a [u8], VerifyFailure> {
    let tbs = &parsed.tbs_certificate;
    let later = !tbs.extensions().is_empty() || tbs.issuer_uid.is_some() || tbs.subject_uid.is_some();
    if later || tbs.version() != X509Version::V1 {
        return Err(unparsable(&"it is of X.509 version 1 and has what only later versions have"));
    }
    if parsed.signature_algorithm != tbs.signature {
        let reason = "it names two different signature algorithms".to_owned();
        return Err(VerifyFailure::SignatureNotAccepted { reason });
    }
    let element = |input: &'a [u8]| Any::from_der(input).map_err(|error| unparsable(&error));
    let (_, certificate) = element(leaf)?;
    let (after, _) = element(certificate.data)?;
    let signed_bytes = certificate.data.len() - after.len();
    let (after, algorithm) = element(after)?;
    let (after, _) = element(after)?;
    // Bytes behind the fields would be outside of what is signed, or of what was read.
    if !after.is_empty() || signed_bytes != tbs.as_ref().len() || parsed.signature_value.unused_bits != 0 {
        return Err(unparsable(&"there are bytes between or after its fields"));
    }
    Ok(algorithm.data)
}

/// The trust anchor of the issuer's name whose key signed. Several may share a name while an authority changes its
/// key.
fn find_issuer<'t>(
    trust: &'t Trust,
    leaf: &X509Certificate<'_>,
    algorithm: &[u8],
    intermediates: &[CertificateDer<'_>],
) -> Result<&'t Anchor, VerifyFailure> {
    let mut named = trust.anchors_called(leaf.issuer().as_raw()).peekable();
    if named.peek().is_none() {
        let issuer = escaped(leaf.issuer());
        let mut sent = intermediates.iter().filter_map(|der| parse(der).ok());
        return Err(if sent.any(|sent| sent.subject().as_raw() == leaf.issuer().as_raw()) {
            VerifyFailure::VersionOneBelowIntermediate { issuer }
        } else {
            VerifyFailure::UnknownIssuer { missing: issuer }
        });
    }
    let mut refused = VerifyFailure::SignatureNotAccepted {
        reason: format!("with the algorithm {}", leaf.signature_algorithm.algorithm),
    };
    for anchor in named {
        match signed_by(anchor, leaf, algorithm) {
            // Whether the name is among those that it may give is for webpki to say, which does not read it.
            Ok(()) if anchor.has_name_constraints() => {
                let reason = "its issuer has name constraints, which bind version 3 only".to_owned();
                refused = VerifyFailure::ChainRules { reason };
            }
            Ok(()) => return Ok(anchor),
            Err(webpki::Error::InvalidSignatureForPublicKey) => {
                refused = VerifyFailure::NamesakeIssuer { issuer: escaped(leaf.issuer()) };
            }
            Err(_) => {}
        }
    }
    Err(refused)
}

/// Whether the anchor's key made the certificate's signature, by an algorithm that is accepted from clients.
fn signed_by(anchor: &Anchor, leaf: &X509Certificate<'_>, algorithm: &[u8]) -> Result<(), webpki::Error> {
    let spki = SubjectPublicKeyInfoDer::from(anchor.spki());
    let key = RawPublicKeyEntity::try_from(&spki)?;
    let (message, signature) = (leaf.tbs_certificate.as_ref(), &leaf.signature_value.data);
    let fitting = CLIENT_SIGNATURES.all.iter().filter(|known| known.signature_alg_id().as_ref() == algorithm);
    let mut unfit = Err(webpki::Error::SignatureAlgorithmMismatch);
    for known in fitting {
        unfit = key.verify_signature(*known, message, signature);
        // One identifier stands for several curves, and only the one of the key can succeed.
        if matches!(unfit, Ok(()) | Err(webpki::Error::InvalidSignatureForPublicKey)) {
            break;
        }
    }
    unfit
}
