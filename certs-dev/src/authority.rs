//! A certificate authority in memory: root, intermediate, leaves, CRLs.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, RevokedCertParams, RsaKeySize, SanType, SerialNumber, SigningKey, SubjectPublicKeyInfo,
};

use crate::Error;
use crate::der::{self, Extension, Extensions};
use crate::profile::{
    CrlProfile, CrlScope, KeyKind, KeyUse, LeafProfile, Purpose, Serial, Subject, SubjectAltName, Validity,
};

const CERTIFICATE_EXTENSIONS: u8 = 0xa3;
const CRL_EXTENSIONS: u8 = 0xa0;

/// A certificate authority with its private key.
pub struct Authority {
    certificate: Vec<u8>,
    serial: Serial,
    issuer: Issuer<'static, KeyPair>,
    /// The certificates below the root, this one first; empty for a root.
    chain: Vec<Vec<u8>>,
}

/// A leaf certificate with its private key and the intermediates up to, not including, the root.
#[derive(Clone)]
pub struct Leaf {
    certificate: Vec<u8>,
    serial: Serial,
    key: Vec<u8>,
    intermediates: Vec<Vec<u8>>,
}

/// A certificate revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
}

impl Authority {
    /// A self-signed root without a path length.
    ///
    /// # Errors
    /// When the key or certificate cannot be made.
    pub fn root(name: &str, key: KeyKind, validity: Validity) -> Result<Self, Error> {
        let key = new_key(key)?;
        let (params, serial) = authority_params(name, validity, BasicConstraints::Unconstrained)?;
        let certificate = params.self_signed(&key)?.der().to_vec();
        let issuer = Issuer::new(params, key);
        Ok(Self { certificate, serial, issuer, chain: Vec::new() })
    }

    /// An authority below this one, which may have `path_len` more authorities below it.
    ///
    /// # Errors
    /// When the key or certificate cannot be made.
    pub fn intermediate(
        &self,
        name: &str,
        key: KeyKind,
        validity: Validity,
        path_len: u8,
    ) -> Result<Self, Error> {
        self.certify(name, new_key(key)?, validity, path_len)
    }

    /// A new certificate for the key of an authority below this one.
    ///
    /// # Errors
    /// When the key cannot be read or the certificate cannot be made.
    pub fn renewed(&self, name: &str, below: &Self, validity: Validity, path_len: u8) -> Result<Self, Error> {
        let key = KeyPair::try_from(below.issuer.key().serialize_der())?;
        self.certify(name, key, validity, path_len)
    }

    fn certify(&self, name: &str, key: KeyPair, validity: Validity, path_len: u8) -> Result<Self, Error> {
        let constraints = BasicConstraints::Constrained(path_len);
        let (params, serial) = authority_params(name, validity, constraints)?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().to_vec();
        let chain = [std::slice::from_ref(&certificate), self.chain.as_slice()].concat();
        Ok(Self { certificate, serial, issuer: Issuer::new(params, key), chain })
    }

    /// Issues a leaf and makes its key pair.
    ///
    /// # Errors
    /// When the profile holds what cannot be written, or the key cannot be made.
    pub fn issue(&self, profile: &LeafProfile) -> Result<Leaf, Error> {
        let key = new_key(profile.key)?;
        let serial = profile.serial.clone().map_or_else(Serial::random, Ok)?;
        let params = leaf_params(profile, &serial)?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().to_vec();
        let intermediates = self.chain.clone();
        Ok(Leaf { certificate, serial, key: key.serialize_der(), intermediates })
    }

    /// Issues a leaf for a public key whose private key is elsewhere, or nowhere; [`Leaf::key`] is empty.
    ///
    /// # Errors
    /// When `spki` is not the DER of a SubjectPublicKeyInfo of a known algorithm.
    pub fn issue_for_public_key(&self, profile: &LeafProfile, spki: &[u8]) -> Result<Leaf, Error> {
        let public_key = SubjectPublicKeyInfo::from_der(spki)?;
        let serial = profile.serial.clone().map_or_else(Serial::random, Ok)?;
        let params = leaf_params(profile, &serial)?;
        let certificate = params.signed_by(&public_key, &self.issuer)?.der().to_vec();
        Ok(Leaf { certificate, serial, key: Vec::new(), intermediates: self.chain.clone() })
    }

    /// Issues a leaf that carries one more extension than a profile can say.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn issue_with_extension(
        &self,
        profile: &LeafProfile,
        extension: Extension<'_>,
    ) -> Result<Leaf, Error> {
        let mut leaf = self.issue(profile)?;
        leaf.certificate =
            der::with_extension(&leaf.certificate, CERTIFICATE_EXTENSIONS, extension, |tbs| {
                Ok(self.issuer.key().sign(tbs)?)
            })?;
        Ok(leaf)
    }

    /// Issues a leaf of X.509 version 1, as `openssl x509 -req` of OpenSSL 3.0 does without `-extfile`: of the
    /// profile, the subject, the validity and the key are left.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn issue_version_1(&self, profile: &LeafProfile, extensions: Extensions) -> Result<Leaf, Error> {
        let mut leaf = self.issue(profile)?;
        leaf.certificate = self.as_version_1(&leaf.certificate, extensions)?;
        Ok(leaf)
    }

    /// A root's own certificate once more, as one of version 1: DER.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn certificate_version_1(&self) -> Result<Vec<u8>, Error> {
        self.as_version_1(&self.certificate, Extensions::Dropped)
    }

    /// A root's own certificate once more, with one more extension: DER.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn certificate_with_extension(&self, extension: Extension<'_>) -> Result<Vec<u8>, Error> {
        der::with_extension(&self.certificate, CERTIFICATE_EXTENSIONS, extension, |tbs| {
            Ok(self.issuer.key().sign(tbs)?)
        })
    }

    fn as_version_1(&self, certificate: &[u8], extensions: Extensions) -> Result<Vec<u8>, Error> {
        der::as_version_1(certificate, extensions, |tbs| Ok(self.issuer.key().sign(tbs)?))
    }

    /// Signs a CRL.
    ///
    /// # Errors
    /// When `next_update` is not after `this_update`.
    pub fn crl(&self, profile: &CrlProfile) -> Result<Crl, Error> {
        let issuing_distribution_point = profile.scope.map(|scope| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec!["http://crl.example.net/issuing.crl".to_owned()],
            },
            scope: Some(match scope {
                CrlScope::Users => rcgen::CrlScope::UserCertsOnly,
                CrlScope::Authorities => rcgen::CrlScope::CaCertsOnly,
            }),
        });
        let revoked_certs = profile
            .revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial.as_bytes()),
                revocation_time: profile.this_update,
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: profile.this_update,
            next_update: profile.next_update,
            crl_number: SerialNumber::from_slice(&profile.number.to_be_bytes()),
            issuing_distribution_point,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(Crl { der: params.signed_by(&self.issuer)?.der().to_vec() })
    }

    /// Signs a CRL that carries one more extension, for instance a delta indicator.
    ///
    /// # Errors
    /// As [`Self::crl`].
    pub fn crl_with_extension(&self, profile: &CrlProfile, extension: Extension<'_>) -> Result<Crl, Error> {
        let crl = self.crl(profile)?;
        let der = der::with_extension(&crl.der, CRL_EXTENSIONS, extension, |tbs| {
            Ok(self.issuer.key().sign(tbs)?)
        })?;
        Ok(Crl { der })
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The serial of the authority's own certificate.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The authority's private key, PKCS#8 DER.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.issuer.key().serialized_der()
    }
}

impl Leaf {
    /// Lets the leaf sign certificates as if it were an authority, which everybody must refuse.
    ///
    /// # Errors
    /// When the leaf was issued for a key that is elsewhere.
    pub fn misused_as_authority(&self) -> Result<Authority, Error> {
        let key = KeyPair::try_from(self.key.as_slice())?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate.as_slice().into(), key)?;
        Ok(Authority {
            certificate: self.certificate.clone(),
            serial: self.serial.clone(),
            issuer,
            chain: self.chain(),
        })
    }

    /// The leaf certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The leaf certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The leaf's serial.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Leaf, then the intermediates below the root, DER: what a TLS peer presents.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        [std::slice::from_ref(&self.certificate), self.intermediates.as_slice()].concat()
    }

    /// Leaf, then the intermediates below the root, PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain().iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// The private key, PKCS#8 DER.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The private key, PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

impl Crl {
    /// The list, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The list, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("X509 CRL", &self.der)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("serial", &self.serial).finish_non_exhaustive()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

fn new_key(kind: KeyKind) -> Result<KeyPair, Error> {
    Ok(match kind {
        KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        KeyKind::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
        KeyKind::P521 => KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?,
        KeyKind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519)?,
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        KeyKind::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?,
        KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
    })
}

fn base_params(subject: &Subject, validity: Validity, serial: &Serial) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.distinguished_name = subject.to_name()?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn authority_params(
    name: &str,
    validity: Validity,
    constraints: BasicConstraints,
) -> Result<(CertificateParams, Serial), Error> {
    let serial = Serial::random()?;
    let mut params = base_params(&Subject::cn(name), validity, &serial)?;
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params, serial))
}

fn leaf_params(profile: &LeafProfile, serial: &Serial) -> Result<CertificateParams, Error> {
    let mut params = base_params(&profile.subject, profile.validity, serial)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = profile.key_uses.iter().map(|key_use| key_usage(*key_use)).collect();
    params.extended_key_usages = profile.purposes.iter().map(|p| purpose(*p)).collect();
    for name in &profile.alt_names {
        params.subject_alt_names.push(match name {
            SubjectAltName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            SubjectAltName::Ip(address) => SanType::IpAddress(*address),
            SubjectAltName::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
        });
    }
    Ok(params)
}

fn key_usage(key_use: KeyUse) -> KeyUsagePurpose {
    match key_use {
        KeyUse::DigitalSignature => KeyUsagePurpose::DigitalSignature,
        KeyUse::KeyAgreement => KeyUsagePurpose::KeyAgreement,
        KeyUse::KeyEncipherment => KeyUsagePurpose::KeyEncipherment,
        KeyUse::CertSign => KeyUsagePurpose::KeyCertSign,
        KeyUse::CrlSign => KeyUsagePurpose::CrlSign,
    }
}

fn purpose(purpose: Purpose) -> ExtendedKeyUsagePurpose {
    match purpose {
        Purpose::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
        Purpose::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        Purpose::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
        Purpose::Any => ExtendedKeyUsagePurpose::Any,
    }
}
