//! Signing requests that renew a certificate.

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

use super::*;

/// Names of a certificate or a request: a common name, an organization, an alternative name.
struct Named {
    name: DnValue,
    organization: Option<&'static str>,
    alternative: Option<&'static str>,
}

impl Named {
    fn utf8(name: &str) -> Self {
        Self { name: DnValue::Utf8String(name.to_owned()), organization: None, alternative: None }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name.clone());
        if let Some(organization) = self.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.subject_alt_names =
            self.alternative.map(|name| SanType::DnsName(name.try_into().unwrap())).into_iter().collect();
        params
    }
}

fn renewing(certificate: &Named, request: &Named) -> Result<CheckedCsr, CsrError> {
    let key = KeyPair::generate().unwrap();
    let certificate = certificate.params().self_signed(&key).unwrap();
    let request = request.params().serialize_request(&key).unwrap();
    let names = Names::of_certificate(certificate.der()).unwrap();
    let policy = CsrPolicy { keys: KeyKinds::every(), subject: SubjectRule::SameAs(names) };
    CheckedCsr::parse(request.der(), &policy)
}

#[test]
fn the_same_names_in_another_string_type_are_the_same() {
    let full = || Named { organization: Some("Hall"), alternative: Some("a.example"), ..Named::utf8("a") };
    assert!(renewing(&Named::utf8("a"), &Named::utf8("a")).is_ok());
    assert!(renewing(&full(), &full()).is_ok());
    let printable = Named { name: DnValue::PrintableString("a".try_into().unwrap()), ..full() };
    assert!(renewing(&full(), &printable).is_ok());
}

#[test]
fn another_name_one_more_and_one_less_are_not_the_same() {
    let full = || Named { organization: Some("Hall"), alternative: Some("a.example"), ..Named::utf8("a") };
    for other in [
        Named { name: DnValue::Utf8String("b".to_owned()), ..full() },
        Named { name: DnValue::Utf8String("A".to_owned()), ..full() },
        Named { organization: None, ..full() },
        Named { organization: Some("Attic"), ..full() },
        Named { alternative: None, ..full() },
        Named { alternative: Some("b.example"), ..full() },
    ] {
        assert_eq!(renewing(&full(), &other), Err(CsrError::Renamed));
        assert_eq!(renewing(&other, &full()), Err(CsrError::Renamed));
    }
}

#[test]
fn what_no_device_may_ask_for_a_renewal_may_not_ask_for_either() {
    let key = KeyPair::generate().unwrap();
    let certificate = Named::utf8("a").params().self_signed(&key).unwrap();
    let names = Names::of_certificate(certificate.der()).unwrap();
    let policy = CsrPolicy { keys: KeyKinds::every(), subject: SubjectRule::SameAs(names) };
    let mut params = Named::utf8("a").params();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).unwrap();
    assert_eq!(CheckedCsr::parse(request.der(), &policy), Err(CsrError::Authority));
    assert_eq!(Names::of_certificate(b"no certificate"), None);
}
