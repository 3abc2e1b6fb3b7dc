//! The parameters that the broker itself gives: those of the certificate.

use std::collections::BTreeMap;

use signet_identity::{CertificateId, ThingName};
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_COUNTRY_NAME, OID_X509_DN_QUALIFIER, OID_X509_ORGANIZATION_NAME,
    OID_X509_ORGANIZATIONAL_UNIT, OID_X509_SERIALNUMBER, OID_X509_STATE_OR_PROVINCE_NAME, Oid,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The parameter that every newcomer has: its certificate's id.
pub(super) const ID: &str = "AWS::IoT::Certificate::Id";

/// The subject attributes that are parameters, in templates for devices of an outside authority.
pub(super) const SUBJECT: [&str; 7] = [
    "AWS::IoT::Certificate::Country",
    "AWS::IoT::Certificate::Organization",
    "AWS::IoT::Certificate::OrganizationalUnit",
    "AWS::IoT::Certificate::DistinguishedNameQualifier",
    "AWS::IoT::Certificate::StateName",
    "AWS::IoT::Certificate::CommonName",
    "AWS::IoT::Certificate::SerialNumber",
];

/// Why no parameters can be read from a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The bytes are no certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
}

/// What the broker says about the newcomer's certificate. A device cannot overrule it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateParameters {
    pub(super) id: CertificateId,
    /// Subject attributes by parameter name; `None` where the subject has several or one that is no text.
    pub(super) subject: BTreeMap<&'static str, Option<String>>,
    pub(super) own_thing: Option<ThingName>,
}

impl CertificateParameters {
    /// For a certificate that this broker issued to a newcomer: only its id, since its subject is ours.
    #[must_use]
    pub const fn issued(id: CertificateId) -> Self {
        Self { id, subject: BTreeMap::new(), own_thing: None }
    }

    /// For the certificate with which the thing `own` renews its own: a rotation template is about that thing.
    #[must_use]
    pub const fn renewed(id: CertificateId, own: ThingName) -> Self {
        Self { id, subject: BTreeMap::new(), own_thing: Some(own) }
    }

    /// For the certificate `der` of an outside authority: its id and the attributes of its subject.
    ///
    /// # Errors
    /// [`SubjectError`] when `der` is no certificate.
    pub fn from_certificate(der: &[u8], id: CertificateId) -> Result<Self, SubjectError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| SubjectError::Unreadable)?;
        let mut subject = BTreeMap::new();
        for attribute in certificate.subject().iter_attributes() {
            let Some(name) = parameter(attribute.attr_type()) else { continue };
            let value = attribute.as_str().ok().map(str::to_owned);
            subject.entry(name).and_modify(|several| *several = None).or_insert(value);
        }
        Ok(Self { id, subject, own_thing: None })
    }
}

fn parameter(oid: &Oid<'_>) -> Option<&'static str> {
    let oids = [
        OID_X509_COUNTRY_NAME,
        OID_X509_ORGANIZATION_NAME,
        OID_X509_ORGANIZATIONAL_UNIT,
        OID_X509_DN_QUALIFIER,
        OID_X509_STATE_OR_PROVINCE_NAME,
        OID_X509_COMMON_NAME,
        OID_X509_SERIALNUMBER,
    ];
    oids.iter().zip(SUBJECT).find(|(known, _)| *known == oid).map(|(_, name)| name)
}
