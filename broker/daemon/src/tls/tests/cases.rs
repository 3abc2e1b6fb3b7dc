//! A table of chains, good and bad, as x509-limbo and BetterTLS have them, made here and judged as clients' certificates.
//! `broker/docs/verifier-cases.md` has the same table for people.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use time::Duration;

use super::support::{NOW, unix};
use crate::tls::{DeviceVerifier, Source, Trust, TrustOptions};

pub(super) type Der = CertificateDer<'static>;

/// An authority: its key, and what its certificates are made of.
pub(super) struct Ca {
    pub(super) params: CertificateParams,
    pub(super) key: KeyPair,
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(super) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        Self { params, key: KeyPair::generate().unwrap() }
    }

    pub(super) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub(super) fn own(&self) -> Der {
        CertificateDer::from(self.params.self_signed(&self.key).unwrap().der().to_vec())
    }

    /// The certificate of an authority below this one.
    pub(super) fn above(&self, below: &Self) -> Der {
        CertificateDer::from(below.params.signed_by(&below.key, &self.issuer()).unwrap().der().to_vec())
    }

    /// A device's certificate.
    pub(super) fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Der {
        let mut params = named("d");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        CertificateDer::from(params.signed_by(&key, &self.issuer()).unwrap().der().to_vec())
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = NOW - Duration::days(1);
    params.not_after = NOW + Duration::days(30);
    params
}

fn critical(oid: &[u64], value: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
    extension.set_criticality(true);
    extension
}

pub(super) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub(super) fn constrained(
    permitted: &[&str],
    excluded: &[&str],
) -> impl FnOnce(&mut CertificateParams) + use<> {
    let trees =
        |names: &[&str]| names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
    let constraints =
        NameConstraints { permitted_subtrees: trees(permitted), excluded_subtrees: trees(excluded) };
    move |params| params.name_constraints = Some(constraints)
}

/// A root, an authority below it, and what hangs on them.
struct Chain {
    root: Ca,
    issuing: Ca,
}

impl Chain {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with(root: impl FnOnce(&mut CertificateParams), issuing: impl FnOnce(&mut CertificateParams)) -> Self {
        Self { root: Ca::with("Root", root), issuing: Ca::with("Issuing", issuing) }
    }

    /// The anchors, and what a client sends.
    fn sent(&self, leaf: Der) -> Sent {
        (vec![self.root.own()], vec![leaf, self.root.above(&self.issuing)])
    }

    fn good(&self) -> Sent {
        self.sent(self.issuing.leaf(|_| {}))
    }
}

pub(super) type Sent = (Vec<Der>, Vec<Der>);

/// A case: its name, why it is refused, the chain.
type Case = (&'static str, Option<&'static str>, fn() -> Sent);

const GOOD: Option<&str> = None;

fn depth(below: &[Option<u8>]) -> Sent {
    let root = Ca::new("Root");
    let mut chain = Vec::new();
    let mut last = Ca::new("Root");
    let anchors = vec![root.own()];
    let mut signer: &Ca = &root;
    for (n, limit) in below.iter().enumerate() {
        let next = Ca::with(&format!("CA {n}"), |params| {
            if let Some(limit) = limit {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(*limit));
            }
        });
        chain.insert(0, signer.above(&next));
        last = next;
        signer = &last;
    }
    chain.insert(0, last.leaf(|_| {}));
    (anchors, chain)
}

const CASES: &[Case] = &[
    ("a leaf, an authority and a root", GOOD, || Chain::new().good()),
    ("path length 1 above path length 0", GOOD, || depth(&[Some(1), Some(0)])),
    ("two authorities below path length 0", Some("chain_rules"), || depth(&[Some(0), Some(0)])),
    ("three authorities below path length 1", Some("chain_rules"), || depth(&[Some(1), None, None])),
    ("an authority without CA:TRUE", Some("chain_rules"), || {
        Chain::with(|_| {}, |params| params.is_ca = IsCa::ExplicitNoCa).good()
    }),
    ("an authority without basic constraints", Some("chain_rules"), || {
        Chain::with(|_| {}, |params| params.is_ca = IsCa::NoCa).good()
    }),
    ("an authority that may sign lists only", Some("chain_rules"), || {
        Chain::with(|_| {}, |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]).good()
    }),
    ("an authority for servers only", Some("wrong_purpose"), || {
        let servers = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        };
        Chain::with(|_| {}, servers).good()
    }),
    ("an authority for clients", GOOD, || {
        let clients = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        };
        Chain::with(|_| {}, clients).good()
    }),
    ("an authority that has expired", Some("expired"), || {
        Chain::with(|_| {}, |params| params.not_after = NOW - Duration::hours(1)).good()
    }),
    ("an authority whose time has not come", Some("not_yet_valid"), || {
        Chain::with(|_| {}, |params| params.not_before = NOW + Duration::hours(1)).good()
    }),
    ("an unknown critical extension in an authority", Some("unparsable"), || {
        let unknown = critical(&[1, 2, 3, 4], &[5, 0]);
        Chain::with(|_| {}, |params| params.custom_extensions.push(unknown)).good()
    }),
    ("an unknown extension in an authority that is not critical", GOOD, || {
        let unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        Chain::with(|_| {}, |params| params.custom_extensions.push(unknown)).good()
    }),
    ("critical policy constraints, which are not evaluated", Some("unparsable"), || {
        let constraints = critical(&[2, 5, 29, 36], &[0x30, 3, 0x80, 1, 0]);
        Chain::with(|_| {}, |params| params.custom_extensions.push(constraints)).good()
    }),
    ("an extension twice in a leaf", Some("unparsable"), || {
        let chain = Chain::new();
        let again = CustomExtension::from_oid_content(
            &[2, 5, 29, 37],
            vec![0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2],
        );
        let leaf = chain.issuing.leaf(|params| params.custom_extensions.push(again));
        chain.sent(leaf)
    }),
    ("an extension twice in an authority", Some("unparsable"), || {
        let again = critical(&[2, 5, 29, 19], &[0x30, 3, 1, 1, 0xff]);
        Chain::with(|_| {}, |params| params.custom_extensions.push(again)).good()
    }),
    ("a name within what an authority may give", GOOD, || {
        let chain = Chain::with(|_| {}, constrained(&["devices.example"], &[]));
        let leaf = chain.issuing.leaf(|params| params.subject_alt_names = vec![dns("a.devices.example")]);
        chain.sent(leaf)
    }),
    ("a name beyond what an authority may give", Some("chain_rules"), || {
        let chain = Chain::with(|_| {}, constrained(&["devices.example"], &[]));
        let leaf = chain.issuing.leaf(|params| params.subject_alt_names = vec![dns("a.other.example")]);
        chain.sent(leaf)
    }),
    ("a name that an authority may not give", Some("chain_rules"), || {
        let chain = Chain::with(|_| {}, constrained(&[], &["secret.example"]));
        let leaf = chain.issuing.leaf(|params| params.subject_alt_names = vec![dns("a.secret.example")]);
        chain.sent(leaf)
    }),
    ("a name beyond what the root may give", Some("chain_rules"), || {
        let chain = Chain::with(constrained(&["devices.example"], &[]), |_| {});
        let leaf = chain.issuing.leaf(|params| params.subject_alt_names = vec![dns("a.other.example")]);
        chain.sent(leaf)
    }),
    ("a signature of another key", Some("namesake_issuer"), || {
        let (chain, namesake) = (Chain::new(), Ca::new("Issuing"));
        chain.sent(namesake.leaf(|_| {}))
    }),
    ("a changed certificate", Some("namesake_issuer"), || {
        let chain = Chain::new();
        let mut leaf = chain.issuing.leaf(|_| {}).to_vec();
        // The year of the end of its validity.
        let at = leaf.windows(2).rposition(|tag| tag == [0x17, 13]).unwrap();
        leaf[at + 3] = b'9';
        chain.sent(CertificateDer::from(leaf))
    }),
    ("two signature algorithms", Some("unparsable"), || {
        let chain = Chain::new();
        let mut leaf = chain.issuing.leaf(|_| {}).to_vec();
        // ecdsa-with-SHA256 after the signed part becomes ecdsa-with-SHA384.
        let ecdsa = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let at = leaf.windows(8).rposition(|oid| oid == ecdsa).unwrap();
        leaf[at + 7] = 3;
        chain.sent(CertificateDer::from(leaf))
    }),
    ("something after the certificate", Some("unparsable"), || {
        let chain = Chain::new();
        let mut leaf = chain.issuing.leaf(|_| {}).to_vec();
        leaf.push(0);
        chain.sent(CertificateDer::from(leaf))
    }),
    ("two authorities that signed each other, and the root", GOOD, || {
        let chain = Chain::new();
        let other = Ca::new("Other");
        let (anchors, mut sent) = chain.good();
        sent.splice(1..1, [chain.issuing.above(&other), other.above(&chain.issuing)]);
        (anchors, sent)
    }),
    ("two authorities that signed each other, and nobody else", Some("unknown_issuer"), || {
        let (one, other) = (Ca::new("One"), Ca::new("Other"));
        let sent = vec![one.leaf(|_| {}), other.above(&one), one.above(&other)];
        (vec![Ca::new("Root").own()], sent)
    }),
    ("an authority signed by itself below no root", Some("unknown_issuer"), || {
        let lonely = Ca::new("Lonely");
        (vec![Ca::new("Root").own()], vec![lonely.leaf(|_| {}), lonely.own()])
    }),
    ("the old root's authority, cross-signed by the new root", GOOD, || {
        let (old, new, issuing) = (Ca::new("Old"), Ca::new("New"), Ca::new("Issuing"));
        let sent = vec![issuing.leaf(|_| {}), new.above(&old), old.above(&issuing)];
        (vec![new.own()], sent)
    }),
    ("six authorities of one name, none of them right", Some("namesake_issuer"), || {
        let chain = Chain::new();
        let strangers: Vec<Ca> = (0..6).map(|_| Ca::new("Issuing")).collect();
        let mut sent = vec![chain.issuing.leaf(|_| {})];
        sent.extend(strangers.iter().map(|stranger| chain.root.above(stranger)));
        (vec![chain.root.own()], sent)
    }),
    ("six authorities of one name, the last one right", GOOD, || {
        let chain = Chain::new();
        let strangers: Vec<Ca> = (0..5).map(|_| Ca::new("Issuing")).collect();
        let mut sent = vec![chain.issuing.leaf(|_| {})];
        sent.extend(strangers.iter().map(|stranger| chain.root.above(stranger)));
        sent.push(chain.root.above(&chain.issuing));
        (vec![chain.root.own()], sent)
    }),
    ("a leaf that says CA:TRUE", Some("chain_rules"), || {
        let chain = Chain::new();
        let leaf = chain.issuing.leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        chain.sent(leaf)
    }),
    ("a leaf for servers", Some("wrong_purpose"), || {
        let chain = Chain::new();
        let servers = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = chain.issuing.leaf(|params| params.extended_key_usages = servers);
        chain.sent(leaf)
    }),
    ("a leaf for anything", Some("wrong_purpose"), || {
        let chain = Chain::new();
        let any = vec![ExtendedKeyUsagePurpose::Any];
        let leaf = chain.issuing.leaf(|params| params.extended_key_usages = any);
        chain.sent(leaf)
    }),
    ("a leaf whose key may only encrypt", Some("wrong_purpose"), || {
        let chain = Chain::new();
        let encrypts = vec![KeyUsagePurpose::KeyEncipherment];
        let leaf = chain.issuing.leaf(|params| params.key_usages = encrypts);
        chain.sent(leaf)
    }),
    ("a leaf that has expired", Some("expired"), || {
        let chain = Chain::new();
        let leaf = chain.issuing.leaf(|params| params.not_after = NOW - Duration::seconds(1));
        chain.sent(leaf)
    }),
    ("a leaf whose time has not come", Some("not_yet_valid"), || {
        let chain = Chain::new();
        let leaf = chain.issuing.leaf(|params| params.not_before = NOW + Duration::seconds(1));
        chain.sent(leaf)
    }),
    ("a leaf whose validity ends before it begins", Some("not_yet_valid"), || {
        let chain = Chain::new();
        let leaf = chain.issuing.leaf(|params| {
            params.not_before = NOW + Duration::days(2);
            params.not_after = NOW - Duration::days(2);
        });
        chain.sent(leaf)
    }),
    ("an unknown critical extension in a leaf", Some("unparsable"), || {
        let chain = Chain::new();
        let unknown = critical(&[1, 2, 3, 4], &[5, 0]);
        let leaf = chain.issuing.leaf(|params| params.custom_extensions.push(unknown));
        chain.sent(leaf)
    }),
    ("a leaf under a root that is not trusted", Some("unknown_issuer"), || {
        let (_, sent) = Chain::new().good();
        (vec![Ca::new("Another").own()], sent)
    }),
    ("the authority left out", Some("unknown_issuer"), || {
        let (anchors, mut sent) = Chain::new().good();
        sent.truncate(1);
        (anchors, sent)
    }),
];

/// The label of the refusal; `None` when the chain is good.
pub(super) fn judged((anchors, sent): &Sent) -> Option<&'static str> {
    let sources: Vec<_> = anchors.iter().map(|der| Source::new("anchor", der.to_vec())).collect();
    let (trust, _) =
        Trust::load(&sources, (&[], &[]), None, TrustOptions::default(), None, unix(NOW)).unwrap();
    let verifier = DeviceVerifier::new(Arc::new(trust), Arc::default());
    verifier.judge(sent, unix(NOW)).err().map(|failure| failure.metric_label())
}

#[test]
fn every_case_of_the_table_is_judged_as_it_says() {
    let wrong: Vec<_> = CASES
        .iter()
        .map(|(name, expected, make)| (name, expected, judged(&make())))
        .filter(|(_, expected, got)| *expected != got)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(CASES.iter().any(|case| case.1.is_none()) && CASES.len() >= 40);
}

#[test]
fn the_page_for_people_has_every_case_of_the_table() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verifier-cases.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (name, refused, _) in CASES {
        let row =
            format!("| {name} | {} |", refused.map_or("accepted".to_owned(), |label| format!("`{label}`")));
        assert!(page.contains(&row), "broker/docs/verifier-cases.md lacks\n{row}");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| a")).count(), {
        CASES.iter().filter(|case| case.0.starts_with('a')).count()
    });
}
