//! Devices of an outside authority.

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

use super::*;

fn certificate(subject: &[(DnType, &str)]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*value).into()));
    }
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn serial() -> DnType {
    DnType::CustomDnType(vec![2, 5, 4, 5])
}

fn jitp(text: &str, der: &[u8]) -> Result<Provisioned, EvaluateError> {
    let template = TemplateBody::parse(TemplateKind::Jitp, text).unwrap_or_else(|p| panic!("{p:#?}"));
    template.evaluate(
        &BTreeMap::new(),
        &CertificateParameters::from_certificate(der, CertificateId::of(der)).unwrap(),
    )
}

#[test]
fn the_published_jitp_template_takes_the_subject() {
    let der = certificate(&[
        (DnType::CommonName, "sn0123EE"),
        (serial(), "0123"),
        (DnType::CountryName, "NO"),
        (DnType::OrganizationName, "Maker"),
    ]);
    let provisioned = jitp(JITP, &der).unwrap();
    assert_eq!(provisioned.thing.name.as_str(), "sn0123EE");
    assert_eq!(provisioned.thing.attributes.get("serialNumber"), Some("0123"));
    let groups: Vec<_> = provisioned.thing.groups.as_slice().iter().map(GroupName::as_str).collect();
    assert_eq!(groups, ["NO", "telemetry", "v1-things"]);
    assert_eq!(provisioned.serial, None);
}

#[test]
fn a_declared_attribute_that_the_subject_lacks_is_refused() {
    let der = certificate(&[(DnType::CommonName, "a"), (serial(), "1")]);
    let country = "AWS::IoT::Certificate::Country";
    assert_eq!(jitp(JITP, &der), Err(EvaluateError::MissingSubject { name: country.into() }));
    let with_default = JITP.replace(
        r#""AWS::IoT::Certificate::Country": {"Type": "String"}"#,
        r#""AWS::IoT::Certificate::Country": {"Type": "String", "Default": "SE"}"#,
    );
    assert!(jitp(&with_default, &der).is_ok());
    // One that is only referred to is as good as declared.
    let undeclared = JITP.replace(r#""AWS::IoT::Certificate::Country": {"Type": "String"},"#, "");
    assert_eq!(jitp(&undeclared, &der), Err(EvaluateError::MissingSubject { name: country.into() }));
}

#[test]
fn an_attribute_that_is_there_twice_names_nobody() {
    // rcgen writes each attribute once, so the second is another one whose object identifier is then changed in the bytes.
    let der = certificate(&[(DnType::CommonName, "a"), (DnType::CustomDnType(vec![2, 5, 4, 12]), "b")]);
    let title = [0x06, 0x03, 0x55, 0x04, 0x0c];
    let at = der.windows(5).position(|window| window == title).unwrap();
    let mut twice = der;
    // Issuer and subject are the same; both places are changed.
    twice[at + 4] = 0x03;
    let at = twice.windows(5).position(|window| window == title).unwrap();
    twice[at + 4] = 0x03;
    let name_only = r#"{"Resources": {
        "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
        "c": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}}}}"#;
    let refused = jitp(name_only, &twice);
    assert_eq!(
        refused,
        Err(EvaluateError::AmbiguousSubject { name: "AWS::IoT::Certificate::CommonName".into() })
    );
    // A template that does not ask for it is not concerned.
    let by_id = name_only.replace("CommonName", "Id");
    assert!(jitp(&by_id, &twice).is_ok());
}

#[test]
fn a_subject_is_as_little_trusted_as_a_parameter() {
    let rest = [(serial(), "1"), (DnType::CountryName, "NO")];
    for odd in ["a/b", "+", "#", "a\nb", "a\0b", ""] {
        let der = certificate(&[&[(DnType::CommonName, odd)], &rest[..]].concat());
        assert!(jitp(JITP, &der).is_err(), "{odd:?}");
    }
    // What the template does not use can be anything.
    let der =
        certificate(&[&[(DnType::CommonName, "a"), (DnType::OrganizationName, "x\ny")], &rest[..]].concat());
    assert!(jitp(JITP, &der).is_ok());
}

#[test]
fn bytes_that_are_no_certificate_give_no_parameters() {
    assert_eq!(CertificateParameters::from_certificate(b"no", id()), Err(SubjectError::Unreadable));
}
