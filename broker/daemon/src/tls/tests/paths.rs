//! Paths through graphs of authorities, as BetterTLS's suite on building paths has them: the graphs, who is trusted, which
//! certificates are bad, and every way to be bad. A chain is good exactly when the anchor can be reached without the bad ones.
//! `broker/docs/verifier-cases.md` says what of that suite is here.

use std::collections::BTreeMap;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa};
use rustls_pki_types::CertificateDer;
use time::Duration;

use super::cases::{Ca, Der, constrained, dns, judged};
use super::support::NOW;

/// Who signed whom. A device's certificate is the edge to `EE`.
type Edge = (&'static str, &'static str);

const LINE: &[Edge] = &[("ICA", "EE"), ("Trust Anchor", "ICA")];
const TWO_ROOTS: &[Edge] = &[("ICA", "EE"), ("Root1", "ICA"), ("Root2", "ICA")];
/// RFC 4158 section 2.3, figure 7.
const FIGURE_SEVEN: &[Edge] = &[
    ("B", "EE"),
    ("C", "B"),
    ("A", "B"),
    ("C", "A"),
    ("A", "C"),
    ("Trust Anchor", "C"),
    ("Trust Anchor", "A"),
];
/// RFC 4158 section 2.4: what lies between two of the infrastructures that a bridge joins. The whole figure has 38 edges, and at most eight
/// certificates are looked at.
const BRIDGE: &[Edge] = &[
    ("N", "EE"),
    ("L", "N"),
    ("TA X", "L"),
    ("Bridge CA", "TA X"),
    ("TA X", "Bridge CA"),
    ("TA Z", "Bridge CA"),
    ("Bridge CA", "TA Z"),
];

/// The graph, the anchor, and the bad certificates.
type Case = (&'static [Edge], &'static str, &'static [Edge]);

const CASES: &[Case] = &[
    (LINE, "Trust Anchor", &[]),
    (LINE, "Trust Anchor", &[("Trust Anchor", "ICA")]),
    (LINE, "ICA", &[("Trust Anchor", "ICA")]),
    (TWO_ROOTS, "Root1", &[]),
    (TWO_ROOTS, "Root2", &[]),
    (TWO_ROOTS, "Root1", &[("Root2", "ICA")]),
    (TWO_ROOTS, "Root2", &[("Root1", "ICA")]),
    (TWO_ROOTS, "Root1", &[("Root1", "ICA")]),
    (TWO_ROOTS, "Root2", &[("Root2", "ICA")]),
    (FIGURE_SEVEN, "Trust Anchor", &[]),
    (FIGURE_SEVEN, "Trust Anchor", &[("Trust Anchor", "C"), ("A", "B")]),
    (FIGURE_SEVEN, "Trust Anchor", &[("Trust Anchor", "A"), ("C", "B")]),
    (FIGURE_SEVEN, "Trust Anchor", &[("Trust Anchor", "A"), ("Trust Anchor", "C")]),
    (FIGURE_SEVEN, "Trust Anchor", &[("A", "B"), ("C", "B")]),
    (BRIDGE, "TA Z", &[]),
    (BRIDGE, "TA Z", &[("TA X", "Bridge CA")]),
    (BRIDGE, "TA Z", &[("Bridge CA", "TA X")]),
    (BRIDGE, "TA Z", &[("TA Z", "Bridge CA")]),
];

/// A way for an authority's certificate to be bad.
type Flaw = (&'static str, fn(&mut CertificateParams));

const FLAWS: &[Flaw] = &[
    ("expired", |params| params.not_after = NOW - Duration::hours(1)),
    ("constrained to other names", |params| constrained(&["bad.example"], &[])(params)),
    ("for e-mail", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection]),
    ("without basic constraints", |params| params.is_ca = IsCa::NoCa),
    ("CA:FALSE", |params| params.is_ca = IsCa::ExplicitNoCa),
];

/// What a client sends: its own certificate, and one for each other edge.
fn sent(graph: &[Edge], cas: &BTreeMap<&str, Ca>, bad: &[Edge], flaw: Flaw) -> Vec<Der> {
    let mut sent = Vec::new();
    for edge @ (from, to) in graph {
        if *to == "EE" {
            sent.insert(0, cas[from].leaf(|params| params.subject_alt_names = vec![dns("localhost")]));
            continue;
        }
        let mut params = cas[to].params.clone();
        if bad.contains(edge) {
            (flaw.1)(&mut params);
        }
        let signed = params.signed_by(&cas[to].key, &cas[from].issuer()).unwrap();
        sent.push(CertificateDer::from(signed.der().to_vec()));
    }
    sent
}

/// Whether `anchor` leads to the device without a bad certificate.
fn is_reachable(graph: &[Edge], anchor: &str, bad: &[Edge]) -> bool {
    let mut reached = vec![anchor];
    let mut at = 0;
    while let Some(from) = reached.get(at).copied() {
        at += 1;
        for (_, to) in graph.iter().filter(|edge| edge.0 == from && !bad.contains(edge)) {
            if !reached.contains(to) {
                reached.push(to);
            }
        }
    }
    reached.contains(&"EE")
}

#[test]
fn a_path_is_found_exactly_when_there_is_a_good_one_whatever_the_order() {
    let (mut good, mut refused) = (0, 0);
    for (graph, anchor, bad) in CASES {
        let names = graph.iter().flat_map(|(from, to)| [*from, *to]);
        let cas: BTreeMap<&str, Ca> = names.map(|name| (name, Ca::new(name))).collect();
        let expected = is_reachable(graph, anchor, bad);
        // Without a bad certificate there is one flaw too many to tell apart.
        let flaws = if bad.is_empty() { &FLAWS[..1] } else { FLAWS };
        for flaw in flaws {
            let mut sent = sent(graph, &cas, bad, *flaw);
            for order in ["as they are", "turned round"] {
                let got = judged(&(vec![cas[anchor].own()], sent.clone()));
                assert_eq!(got.is_none(), expected, "{anchor} {bad:?} {} {order}: {got:?}", flaw.0);
                if expected {
                    good += 1;
                } else {
                    refused += 1;
                }
                sent[1..].reverse();
            }
        }
    }
    assert_eq!((good, refused), (70, 70));
}
