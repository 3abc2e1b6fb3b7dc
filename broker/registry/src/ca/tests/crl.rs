use webpki::{
    BorrowedCertRevocationList, CertRevocationList, ExpirationPolicy, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;
use crate::{RevocationReason, SerialNumber};

fn entry(serial: &[u8], secs: u64, reason: RevocationReason) -> CrlEntry {
    CrlEntry { serial: SerialNumber::new(serial).unwrap(), revoked_at: Wall(NOW.0 + secs * 1000), reason }
}

fn list(issuer: &Issuer, entries: Vec<CrlEntry>) -> Crl {
    crl(issuer, entries, 7, NOW, NOW.after(DAY)).unwrap()
}

/// What a verifier says of `leaf` that trusts `root` and knows the lists `crls`.
fn judged(
    leaf: &Issued,
    issuer: &Issuer,
    root: &Issuer,
    crls: &[&Crl],
    at: Wall,
) -> Result<(), webpki::Error> {
    let parsed: Vec<_> = crls
        .iter()
        .map(|crl| CertRevocationList::from(BorrowedCertRevocationList::from_der(&crl.der).unwrap()))
        .collect();
    let parsed: Vec<_> = parsed.iter().collect();
    let options = RevocationOptionsBuilder::new(&parsed)
        .unwrap()
        .with_depth(RevocationCheckDepth::EndEntity)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    verify(&leaf.der, &[issuer], root, at, Some(options))
}

#[test]
fn a_list_of_0_1_and_1000_entries_verifies_and_names_who_is_revoked() {
    let root = root();
    let issuer = below(&root, 100 * DAY);
    let (good, bad) = (issued_by(&issuer), issued_by(&issuer));
    let others = |count: u32| (1..=count).map(|n| entry(&n.to_be_bytes(), 0, RevocationReason::Superseded));
    let revoked = CrlEntry { serial: bad.serial, revoked_at: NOW, reason: RevocationReason::KeyCompromise };

    for count in [0, 1, 1000] {
        let without = list(&issuer, others(count).collect());
        assert_eq!(without.entries, count as usize);
        for leaf in [&good, &bad] {
            judged(leaf, &issuer, &root, &[&without], NOW).unwrap();
        }
    }
    for count in [0, 999] {
        let with = list(&issuer, others(count).chain([revoked]).collect());
        judged(&good, &issuer, &root, &[&with], NOW).unwrap();
        assert_eq!(judged(&bad, &issuer, &root, &[&with], NOW), Err(webpki::Error::CertRevoked));
    }
}

#[test]
fn a_list_lapses_at_its_next_update() {
    let root = root();
    let issuer = below(&root, 100 * DAY);
    let leaf = issued_by(&issuer);
    let list = list(&issuer, Vec::new());
    let last = Wall(NOW.after(DAY).0 - 1000);
    judged(&leaf, &issuer, &root, &[&list], last).unwrap();
    let late = judged(&leaf, &issuer, &root, &[&list], NOW.after(DAY + DAY));
    assert!(matches!(late, Err(webpki::Error::CrlExpired { .. })), "{late:?}");
}

#[test]
fn a_list_of_another_authority_says_nothing() {
    let root = root();
    let issuer = below(&root, 100 * DAY);
    let leaf = issued_by(&issuer);
    let of_root = list(&root, Vec::new());
    let unknown = judged(&leaf, &issuer, &root, &[&of_root], NOW);
    assert_eq!(unknown, Err(webpki::Error::UnknownRevocationStatus));
}

#[test]
fn every_field_of_a_list_is_as_rfc_5280_says() {
    let issuer = root();
    let entries = vec![
        entry(&[0x80, 1], 5, RevocationReason::Unspecified),
        entry(&[2], 9, RevocationReason::PrivilegeWithdrawn),
        entry(&[0x7f; 16], 1, RevocationReason::CessationOfOperation),
    ];
    let signed = crl(&issuer, entries, 256, NOW, NOW.after(7 * DAY)).unwrap();
    let (rest, list) = CertificateRevocationList::from_der(&signed.der).unwrap();
    assert!(rest.is_empty());
    assert_eq!(list.version().map(|version| version.0), Some(1), "version 2");
    assert_eq!(list.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");
    assert_eq!(list.last_update().timestamp(), NOW.unix_secs());
    assert_eq!(list.next_update().map(|at| at.timestamp()), Some(NOW.unix_secs() + 7 * 86_400));
    assert_eq!(list.crl_number().map(ToString::to_string).as_deref(), Some("256"));
    let extensions: Vec<_> =
        list.extensions().iter().map(|one| (one.oid.to_id_string(), one.critical)).collect();
    assert_eq!(extensions, [("2.5.29.35".to_owned(), false), ("2.5.29.20".to_owned(), false)]);
    // SEQUENCE of the key identifier, context tag 0.
    assert_eq!(list.extensions()[0].value, seq(&[&tlv(0x80, &[issuer.key_id()])]));

    let rows: Vec<_> = list
        .iter_revoked_certificates()
        .map(|row| {
            (
                row.raw_serial().to_vec(),
                row.revocation_date.timestamp(),
                row.reason_code().map(|code| code.1.0),
            )
        })
        .collect();
    let at = NOW.unix_secs();
    // In the order of the numbers; an unspecified reason is not written (section 5.3.1).
    let expected =
        [(vec![2], at + 9, Some(9)), (vec![0, 0x80, 1], at + 5, None), (vec![0x7f; 16], at + 1, Some(5))];
    assert_eq!(rows, expected);
    let pem = pem::parse(signed.pem()).unwrap();
    assert_eq!((pem.tag(), pem.contents()), ("X509 CRL", &signed.der[..]));
}

#[test]
fn an_empty_list_has_no_list_of_revoked_certificates() {
    let signed = list(&root(), Vec::new());
    let (_, parsed) = CertificateRevocationList::from_der(&signed.der).unwrap();
    assert!(parsed.tbs_cert_list.revoked_certificates.is_empty());
    // RFC 5280 section 5.1.2.6: absent, not empty. An empty SEQUENCE before the extensions would be 30 00 a0.
    assert!(!signed.der.windows(3).any(|part| part == [0x30, 0, 0xa0]));
}

#[test]
fn a_serial_number_that_comes_twice_is_listed_once_with_the_earlier_date() {
    let issuer = root();
    let late = entry(&[9], 60, RevocationReason::KeyCompromise);
    let early = entry(&[9], 30, RevocationReason::Superseded);
    let signed = list(&issuer, vec![late, early]);
    assert_eq!(signed.entries, 1);
    let (_, parsed) = CertificateRevocationList::from_der(&signed.der).unwrap();
    let dates: Vec<_> =
        parsed.iter_revoked_certificates().map(|row| row.revocation_date.timestamp()).collect();
    assert_eq!(dates, [NOW.unix_secs() + 30]);
}

#[test]
fn every_reason_has_its_code_in_the_list() {
    let issuer = root();
    for reason in RevocationReason::ALL {
        let signed = list(&issuer, vec![entry(&[1], 0, reason)]);
        let (_, parsed) = CertificateRevocationList::from_der(&signed.der).unwrap();
        let code = parsed.iter_revoked_certificates().find_map(|row| row.reason_code().map(|code| code.1.0));
        assert_eq!(code.unwrap_or(0), reason.code(), "{reason}");
    }
}

#[test]
fn a_list_without_a_later_next_one_and_an_authority_that_signs_no_lists_are_refused() {
    let issuer = root();
    for next in [NOW, Wall(NOW.0 + 999), Wall(0)] {
        assert_eq!(crl(&issuer, [], 1, NOW, next), Err(CrlError::NextUpdate));
    }
    assert!(crl(&issuer, [], 1, NOW, Wall(NOW.0 + 1000)).is_ok());

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).unwrap().pem();
    let signer = Arc::new(KeySigner::from_pkcs8(key.serialized_der()).unwrap());
    let no_lists = Issuer::load(pem.as_bytes(), signer, NOW).unwrap();
    assert_eq!(crl(&no_lists, [], 1, NOW, NOW.after(DAY)), Err(CrlError::KeyUsage));
}
