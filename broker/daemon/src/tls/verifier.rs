//! The judgement of client certificates, as rustls asks for it during a full handshake and as the listener
//! does after every handshake.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use signet_identity::{
    CertificateId, IdentityError, IdentitySource, Issued, Lineage, NameRule, ThingName, common_name_in,
    describe, name_of,
};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::cache::{ChainCache, VerifiedPath};
use super::crl::{KeyHash, PathId, SerialKey, sha256};
use super::issuers::{Authorities, Issuers};
use super::observe::{Refusal, is_barred, note};
use super::options::{EkuRule, X509V1};
use super::provider::CLIENT_SIGNATURES;
use super::trust::{Trust, escaped, seconds};
use super::{VerifyFailure, Which, version_one};

/// The bits of an RSA key that a client may have.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
const CURVE_P256: &str = "1.2.840.10045.3.1.7";
const CURVE_P384: &str = "1.3.132.0.34";

/// Judges client certificates: webpki validates the path, our policy the rest, a cache spares the repetition.
pub struct DeviceVerifier {
    trust: ArcSwap<Trust>,
    cache: Arc<ChainCache>,
    hints: Arc<[DistinguishedName]>,
}

/// A certificate that was judged good; what is needed to judge it again, without the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    path: Arc<VerifiedPath>,
    generation: u64,
}

impl Judged {
    /// The SHA-256 of the client's own certificate.
    #[must_use]
    pub fn certificate(&self) -> CertificateId {
        CertificateId::from_bytes(self.path.leaf)
    }

    /// The last second of the common validity of the path, in Unix seconds: a connection ends then.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.path.not_after
    }

    /// The last second at which the path was judged good, in Unix seconds: behind [`Self::not_after`] where the listener
    /// has a grace for certificates that have expired.
    #[must_use]
    pub fn usable_until(&self) -> i64 {
        self.path.usable_until
    }

    /// The name that the certificate gives its holder, from `source` alone. `leaf` is the certificate that was judged.
    ///
    /// # Errors
    /// As [`signet_identity::identify`].
    pub fn name(
        &self,
        leaf: &[u8],
        source: IdentitySource,
        rule: &NameRule,
    ) -> Result<ThingName, IdentityError> {
        match (source, &self.path.common_name) {
            (IdentitySource::Cn, Some(name)) => Ok(name.under(rule)?),
            (IdentitySource::Fingerprint, _) => Ok(ThingName::fingerprint(&self.certificate())),
            _ => name_of(leaf, source, rule),
        }
    }

    /// The key that signed the client's certificate, by the SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn issuer_key(&self) -> signet_registry::KeyHash {
        // A verified path has the client's certificate in it; without one, no key has this hash.
        signet_registry::KeyHash::from_bytes(self.path.ids.first().map_or([0; 32], |id| id.issuer.0))
    }

    /// The trust anchor that the path ends in, by a hash of its name and key.
    #[must_use]
    pub fn anchor(&self) -> [u8; 32] {
        self.path.anchor
    }

    /// The serial number of the client's certificate.
    #[must_use]
    pub fn serial(&self) -> signet_registry::SerialNumber {
        let serial =
            self.path.ids.first().and_then(|id| signet_registry::SerialNumber::new(id.serial.octets()));
        serial.unwrap_or(signet_registry::SerialNumber::ZERO)
    }

    /// What revocation lists name the certificate and the authorities above it by.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        Lineage::of(
            self.path.ids.iter().map(|id| Issued { issuer: &id.issuer.0, serial: id.serial.octets() }),
        )
    }

    /// [`Trust::generation`] at the judgement.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl DeviceVerifier {
    /// The most certificates of a chain that are looked at, the client's own included.
    pub const CERTIFICATES_MAX: usize = 8;
    /// The most bytes of a chain that are looked at.
    pub const CHAIN_BYTES_MAX: usize = 32 * 1024;

    /// A verifier with this trust. The cache may be shared: its entries are bound to the anchors by hash.
    #[must_use]
    pub fn new(trust: Arc<Trust>, cache: Arc<ChainCache>) -> Self {
        let hints = trust.hints();
        Self { trust: ArcSwap::new(trust), cache, hints }
    }

    /// The trust in force.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        self.trust.load_full()
    }

    /// The cache of verified chains.
    #[must_use]
    pub fn cache(&self) -> &Arc<ChainCache> {
        &self.cache
    }

    /// Judges the chain that a client presented or that its resumed session carries: path, policy, validity
    /// and revocation as of `now`. Resumption does not run the handshake's verifier, so this is called after
    /// every handshake.
    ///
    /// # Errors
    /// Why the chain is refused.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Judged, VerifyFailure> {
        let (leaf, intermediates) = chain.split_first().ok_or(VerifyFailure::NoCertificate)?;
        let trust = self.trust.load();
        let path = self.verify(&trust, sha256(&[leaf]), leaf, intermediates, now)?;
        Ok(Judged { path, generation: trust.generation() })
    }

    /// Judges again what was judged good before, under the trust in force now, without the chain: after a
    /// change of revocation lists or anchors, for every live connection.
    ///
    /// # Errors
    /// Why the certificate would be refused now. [`VerifyFailure::AnchorRemoved`] may be too strict when the
    /// same chain has another way to an anchor; [`Self::judge`] with the chain knows.
    pub fn judge_again(&self, judged: &Judged, now: UnixTime) -> Result<(), VerifyFailure> {
        let trust = self.trust.load();
        let (path, now) = (&judged.path, seconds(now));
        if trust.anchors_hash() != path.anchors {
            trust.check_anchor(&path.ids)?;
            if trust.valid_anchor(&path.anchor, now).is_none() {
                return Err(VerifyFailure::AnchorRemoved);
            }
            if !path.has_eku && trust.options().eku == EkuRule::Required {
                return Err(VerifyFailure::MissingPurpose);
            }
            if path.version_one && trust.options().x509_v1 == X509V1::Refuse {
                return Err(VerifyFailure::VersionOne);
            }
        }
        if now < path.not_before || now > path.until(grace_secs(&trust)) {
            return Err(outside(Which::Leaf, path.not_before, path.not_after, now));
        }
        trust.check_revocation(&path.ids, now)
    }

    /// `leaf_hash` is the SHA-256 of the leaf.
    fn verify(
        &self,
        trust: &Trust,
        leaf_hash: [u8; 32],
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<Arc<VerifiedPath>, VerifyFailure> {
        let count = intermediates.len() + 1;
        if count > Self::CERTIFICATES_MAX {
            return Err(VerifyFailure::TooManyCertificates { count, max: Self::CERTIFICATES_MAX });
        }
        let bytes = leaf.len() + intermediates.iter().map(|der| der.len()).sum::<usize>();
        if bytes > Self::CHAIN_BYTES_MAX {
            return Err(VerifyFailure::ChainTooLong { bytes, max: Self::CHAIN_BYTES_MAX });
        }
        let now = seconds(at);
        let hashes: Vec<[u8; 32]> =
            std::iter::once(leaf_hash).chain(intermediates.iter().map(|der| sha256(&[der]))).collect();
        // A list of hashes of one length each: no two different lists of certificates give the same one.
        let chain_hash = sha256(&[hashes.as_flattened()]);
        let anchors = trust.anchors_hash();
        let path = match self.cache.get(&leaf_hash, &chain_hash, &anchors, now) {
            Some(path) => path,
            None => {
                let found = validate(trust, &self.cache.issuers, leaf, intermediates, &hashes, at)?;
                let path = Arc::new(VerifiedPath { leaf: leaf_hash, chain: chain_hash, ..found });
                self.cache.insert(&path);
                path
            }
        };
        trust.check_revocation(&path.ids, now)?;
        Ok(path)
    }

    fn refuse(&self, failure: VerifyFailure, leaf: &CertificateDer<'_>, certificates: usize) -> Error {
        let error = failure.certificate_error();
        note(|| Refusal { failure, leaf: describe(leaf), certificates, id: CertificateId::of(leaf) });
        Error::InvalidCertificate(error)
    }
}

impl ClientCertVerifier for DeviceVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = CertificateId::of(end_entity);
        if is_barred(&certificate) {
            let failure = VerifyFailure::RefusedBefore { certificate };
            return Err(self.refuse(failure, end_entity, intermediates.len() + 1));
        }
        let leaf_hash = *certificate.as_bytes();
        match self.verify(&self.trust.load(), leaf_hash, end_entity, intermediates, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(failure) => Err(self.refuse(failure, end_entity, intermediates.len() + 1)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_one::verify_tls12_signature(message, cert, dss, &CLIENT_SIGNATURES)
            .map_err(|_| self.refuse(VerifyFailure::NotTheKeyHolder, cert, 1))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_one::verify_tls13_signature(message, cert, dss, &CLIENT_SIGNATURES)
            .map_err(|_| self.refuse(VerifyFailure::NotTheKeyHolder, cert, 1))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        CLIENT_SIGNATURES.supported_schemes()
    }
}

/// The same judgement of a certificate that a client need not have.
#[derive(Debug)]
pub(super) struct Optional(pub(super) Arc<DeviceVerifier>);

impl ClientCertVerifier for Optional {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl fmt::Debug for DeviceVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceVerifier").field("trust", &self.trust.load()).finish_non_exhaustive()
    }
}

/// Validates the path and the leaf's policy. `hashes` are those of the leaf and of `intermediates`. The hashes of the result
/// are the caller's to fill in.
fn validate(
    trust: &Trust,
    issuers: &Issuers,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    hashes: &[[u8; 32]],
    at: UnixTime,
) -> Result<VerifiedPath, VerifyFailure> {
    let now = seconds(at);
    if version_one::is_one(leaf) {
        return version_one::validate(trust, leaf, intermediates, now);
    }
    let end_entity = EndEntityCert::try_from(leaf).map_err(|error| unparsable(&error))?;
    let parsed = parse(leaf)?;
    let judged_at = time_of_judgement(&parsed, grace_secs(trust), at);
    if let Some(issuer) = issuers.of(hashes, &trust.anchors_hash(), &end_entity, (judged_at, at)) {
        let has_eku = check_policy(&parsed, trust.options().eku)?;
        return path_below(trust, &issuer.authorities, &parsed, has_eku);
    }
    let path = end_entity
        .verify_for_usage(
            CLIENT_SIGNATURES.all,
            trust.trust_anchors(),
            intermediates,
            judged_at,
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|error| explain(&error, trust, leaf, intermediates, now))?;
    let anchor = trust
        .anchor_of(path.anchor())
        .ok_or_else(|| VerifyFailure::UnknownIssuer { missing: "the path's end".to_owned() })?;
    if now < anchor.not_before || now > anchor.not_after {
        return Err(outside(Which::Authority, anchor.not_before, anchor.not_after, now));
    }
    let has_eku = check_policy(&parsed, trust.options().eku)?;
    let mut authorities = Authorities {
        anchors: trust.anchors_hash(),
        anchor: anchor.id,
        window: (anchor.not_before, anchor.not_after),
        issuer: anchor.key,
        ids: Vec::with_capacity(intermediates.len()),
        hashes: path.intermediate_certificates().map(|authority| sha256(&[&authority.der()])).collect(),
    };
    let mut constrained = anchor.has_name_constraints();
    // From the anchor down, so that the key of each issuer is known before what it issued.
    for certificate in path.intermediate_certificates().rev() {
        let der = certificate.der();
        let authority = parse(&der)?;
        check_may_sign(&authority)?;
        constrained |= !matches!(authority.name_constraints(), Ok(None));
        narrow(&mut authorities.window, &authority);
        authorities.ids.push(path_id(authorities.issuer, certificate.serial(), Which::Authority)?);
        authorities.issuer = KeyHash::of(certificate.subject_public_key_info().as_ref());
    }
    let window = authorities.window;
    if now < window.0 || now > window.1 {
        // Only the client's own certificate has a grace.
        return Err(outside(Which::Authority, window.0, window.1, now));
    }
    let verified = path_below(trust, &authorities, &parsed, has_eku)?;
    if let Some(issuer) = path.intermediate_certificates().next().filter(|_| !constrained) {
        issuers.remember(&issuer.der(), authorities);
    }
    Ok(verified)
}

/// The path of a leaf that these authorities issued.
fn path_below(
    trust: &Trust,
    authorities: &Authorities,
    leaf: &X509Certificate<'_>,
    has_eku: bool,
) -> Result<VerifiedPath, VerifyFailure> {
    let mut window = authorities.window;
    narrow(&mut window, leaf);
    let own = path_id(authorities.issuer, leaf.raw_serial(), Which::Leaf)?;
    let path = VerifiedPath {
        leaf: [0; 32],
        chain: [0; 32],
        anchors: authorities.anchors,
        not_before: window.0,
        not_after: window.1,
        anchor: authorities.anchor,
        authorities_until: authorities.window.1,
        usable_until: window.1,
        has_eku,
        version_one: false,
        ids: std::iter::once(own).chain(authorities.ids.iter().rev().cloned()).collect(),
        common_name: common_name_in(leaf),
    };
    Ok(VerifiedPath { usable_until: path.until(grace_secs(trust)), ..path })
}

/// RFC 5280 section 6.1.4 (n), which webpki leaves out: an authority with a key usage must have keyCertSign in it.
fn check_may_sign(authority: &X509Certificate<'_>) -> Result<(), VerifyFailure> {
    let usage = authority.key_usage().map_err(|error| unparsable(&error))?;
    if usage.is_none_or(|usage| usage.value.key_cert_sign()) {
        return Ok(());
    }
    let reason = format!("the key usage of \"{}\" lacks keyCertSign", escaped(authority.subject()));
    Err(VerifyFailure::ChainRules { reason })
}

fn grace_secs(trust: &Trust) -> i64 {
    i64::try_from(trust.options().expired_grace.as_secs()).unwrap_or(i64::MAX)
}

/// A leaf that has ended within the grace is judged by its last second.
fn time_of_judgement(leaf: &X509Certificate<'_>, grace: i64, at: UnixTime) -> UnixTime {
    let (now, end) = (seconds(at), leaf.validity().not_after.timestamp());
    match u64::try_from(end) {
        Ok(last) if now > end && now.saturating_sub(end) <= grace => {
            UnixTime::since_unix_epoch(Duration::from_secs(last))
        }
        _ => at,
    }
}

pub(super) fn path_id(issuer: KeyHash, serial: &[u8], which: Which) -> Result<PathId, VerifyFailure> {
    let serial = SerialKey::new(serial).ok_or_else(|| VerifyFailure::Unparsable {
        reason: "the serial number has more than 20 octets".into(),
    })?;
    Ok(PathId { issuer, serial, which })
}

pub(super) fn narrow(window: &mut (i64, i64), certificate: &X509Certificate<'_>) {
    let validity = certificate.validity();
    window.0 = window.0.max(validity.not_before.timestamp());
    window.1 = window.1.min(validity.not_after.timestamp());
}

pub(super) fn outside(which: Which, not_before: i64, not_after: i64, now: i64) -> VerifyFailure {
    let unsigned = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
    if now < not_before {
        VerifyFailure::NotYetValid { which, not_before: unsigned(not_before), now: unsigned(now) }
    } else {
        VerifyFailure::Expired { which, not_after: unsigned(not_after), now: unsigned(now) }
    }
}

pub(super) fn unparsable(reason: &dyn fmt::Display) -> VerifyFailure {
    VerifyFailure::Unparsable { reason: reason.to_string() }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, VerifyFailure> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(unparsable(&"there are bytes after its end")),
        Err(error) => Err(unparsable(&error)),
    }
}

/// Extended key usage, key usage, kind and size of the key. Returns whether there is an extended key usage.
pub(super) fn check_policy(leaf: &X509Certificate<'_>, rule: EkuRule) -> Result<bool, VerifyFailure> {
    let eku = leaf.extended_key_usage().map_err(|error| unparsable(&error))?;
    match &eku {
        Some(eku) if !eku.value.client_auth => return Err(VerifyFailure::WrongPurpose),
        None if rule == EkuRule::Required => return Err(VerifyFailure::MissingPurpose),
        _ => {}
    }
    let usage = leaf.key_usage().map_err(|error| unparsable(&error))?;
    if usage.is_some_and(|usage| !usage.value.digital_signature() && !usage.value.key_agreement()) {
        return Err(VerifyFailure::WrongKeyUsage);
    }
    let refused = |found: String| Err(VerifyFailure::KeyNotAccepted { found });
    let key = leaf.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    match key.parsed() {
        Ok(PublicKey::EC(_)) => match curve.map(|oid| oid.to_id_string()).as_deref() {
            Some(CURVE_P256 | CURVE_P384) => Ok(eku.is_some()),
            curve => refused(format!("on the elliptic curve {}", curve.unwrap_or("that it does not name"))),
        },
        Ok(PublicKey::RSA(key)) if RSA_BITS.contains(&key.key_size()) => Ok(eku.is_some()),
        Ok(PublicKey::RSA(key)) => refused(format!("RSA of {} bits", key.key_size())),
        _ => refused(format!("of kind {}", key.algorithm.algorithm)),
    }
}

/// Says in our terms what webpki found.
fn explain(
    error: &webpki::Error,
    trust: &Trust,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: i64,
) -> VerifyFailure {
    use webpki::Error as E;
    let parsed = match parse(leaf) {
        Ok(parsed) => parsed,
        Err(failure) => return failure,
    };
    let reason = || error.to_string();
    match error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => {
            explain_window(error, &parsed, now)
        }
        E::UnknownIssuer => VerifyFailure::UnknownIssuer { missing: missing_issuer(&parsed, intermediates) },
        E::InvalidSignatureForPublicKey => {
            let known = trust.anchor_subjects().any(|subject| subject == escaped(parsed.issuer()));
            let issuer =
                if known { escaped(parsed.issuer()) } else { missing_issuer(&parsed, intermediates) };
            VerifyFailure::NamesakeIssuer { issuer }
        }
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => VerifyFailure::WrongPurpose,
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => VerifyFailure::SignatureNotAccepted { reason: reason() },
        // The leaf was read, so an authority's is meant.
        E::UnsupportedCertVersion => VerifyFailure::ChainRules {
            reason: "an authority's certificate is not of X.509 version 3".to_owned(),
        },
        E::CaUsedAsEndEntity
        | E::EndEntityUsedAsCa
        | E::PathLenConstraintViolated
        | E::NameConstraintViolation
        | E::MaximumPathDepthExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded
        | E::CertDistrusted => VerifyFailure::ChainRules { reason: reason() },
        _ => VerifyFailure::Unparsable { reason: reason() },
    }
}

/// webpki says that some certificate is outside its window, not which.
fn explain_window(error: &webpki::Error, leaf: &X509Certificate<'_>, now: i64) -> VerifyFailure {
    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    if now < begin || now > end {
        return outside(Which::Leaf, begin, end, now);
    }
    match error {
        webpki::Error::CertExpired { not_after, .. } => {
            outside(Which::Authority, i64::MIN, seconds(*not_after), now)
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            outside(Which::Authority, seconds(*not_before), i64::MAX, now)
        }
        _ => VerifyFailure::Unparsable { reason: "an authority's validity ends before it begins".to_owned() },
    }
}

/// Climbs by name from the leaf through what was sent; the first issuer that was not sent is the one that the
/// trust anchors lack.
fn missing_issuer(leaf: &X509Certificate<'_>, intermediates: &[CertificateDer<'_>]) -> String {
    let sent: Vec<X509Certificate<'_>> = intermediates.iter().filter_map(|der| parse(der).ok()).collect();
    let mut issuer = leaf.issuer();
    // Every step uses up one certificate; a loop of names ends here too.
    for _ in 0..sent.len() {
        match sent.iter().find(|certificate| certificate.subject().as_raw() == issuer.as_raw()) {
            Some(next) if next.issuer().as_raw() != issuer.as_raw() => issuer = next.issuer(),
            _ => break,
        }
    }
    escaped(issuer)
}
