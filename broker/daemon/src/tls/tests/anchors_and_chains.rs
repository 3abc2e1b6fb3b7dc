//! Which anchors and which chains lead to each other.

use signet_certs_dev::{Authority, KeyKind, LeafProfile};

use super::support::{
    BOTH, NOW, World, build, days, ders, handshake, judge, load, long, options, root, unix,
};
use crate::tls::{SourceProblem, TrustOptions, TrustWarning, VerifyFailure};

#[test]
fn leaf_only_is_admitted_when_the_issuing_authority_is_an_anchor() {
    let world = World::new();
    let device = world.device("d");
    let leaf_only = || ders(&device.chain()[..1]);
    let listener = build(&world.sources_with(&[]), &options());
    for version in BOTH {
        handshake(&listener, &world.client_with(version, Some((leaf_only(), device.key()))).into())
            .succeeded();
    }
    let failure = world.listener().judge(&leaf_only(), unix(NOW)).unwrap_err();
    assert_eq!(failure, VerifyFailure::UnknownIssuer { missing: "CN=Issuing".into() });
}

#[test]
fn an_intermediate_alone_may_be_the_anchor() {
    let world = World::new();
    let device = world.device("d");
    let mut sources = world.sources_with(&[]);
    sources.client_ca.remove(0);
    let listener = build(&sources, &options());
    judge(&listener, &device).unwrap();
    // Its root is not trusted by that.
    let sibling = world.root.intermediate("Sibling", KeyKind::P256, long(), 0).unwrap();
    let leaf = sibling.issue(&LeafProfile::device("d", days(90))).unwrap();
    assert_eq!(judge(&listener, &leaf).unwrap_err().metric_label(), "unknown_issuer");
}

#[test]
fn several_authorities_in_one_file_and_in_several_are_all_anchors() {
    let world = World::new();
    let others: Vec<Authority> = (0..3).map(|n| root(&format!("Other {n}"))).collect();
    let mut sources = world.sources();
    let two: String = others[..2].iter().map(Authority::certificate_pem).collect();
    sources.client_ca.push(crate::tls::Source::new("two.crt", two));
    sources.client_ca.push(crate::tls::Source::new("third.der", others[2].certificate()));
    let listener = build(&sources, &options());
    judge(&listener, &world.device("d")).unwrap();
    for other in &others {
        judge(&listener, &other.issue(&LeafProfile::device("d", days(90))).unwrap()).unwrap();
    }
    let unknown = root("Other 3").issue(&LeafProfile::device("d", days(90))).unwrap();
    assert_eq!(judge(&listener, &unknown).unwrap_err().metric_label(), "unknown_issuer");
}

#[test]
fn two_authorities_of_one_name_are_both_anchors_while_a_key_changes() {
    let world = World::new();
    let (old, new) = (root("Rolling"), root("Rolling"));
    let mut sources = world.sources();
    for authority in [&old, &new] {
        sources.client_ca.push(crate::tls::Source::new("rolling.crt", authority.certificate_pem()));
    }
    let listener = build(&sources, &options());
    for authority in [&old, &new] {
        judge(&listener, &authority.issue(&LeafProfile::device("d", days(90))).unwrap()).unwrap();
    }
}

#[test]
fn certificates_in_another_order_and_strange_ones_between_do_no_harm() {
    let world = World::new();
    let device = world.device("d");
    let [leaf, issuing] = device.chain().try_into().unwrap();
    let strange = root("Strange").certificate().to_vec();
    let chain = ders(&[leaf, strange, world.root.certificate().to_vec(), issuing]);
    world.listener().judge(&chain, unix(NOW)).unwrap();
}

#[test]
fn an_anchor_that_ends_soon_bounds_the_connection() {
    let world = World::new();
    let short = Authority::root("Short", KeyKind::P256, days(10)).unwrap();
    let leaf = short.issue(&LeafProfile::device("d", days(90))).unwrap();
    let mut sources = world.sources();
    sources.client_ca.push(crate::tls::Source::new("short.crt", short.certificate_pem()));
    let judged = judge(&build(&sources, &options()), &leaf).unwrap();
    assert_eq!(judged.not_after(), days(10).not_after.unix_timestamp());
}

#[test]
fn what_is_no_authority_is_no_anchor() {
    let world = World::new();
    let problem = |text: String| {
        let good = world.root.certificate_pem();
        let errors = load(&[good, text], &[], TrustOptions::default(), None).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].file, "ca-2");
        errors[0].problem.clone()
    };
    assert!(matches!(problem(world.server.certificate_pem()), SourceProblem::NotAnAuthority { .. }));
    let found = "a private key";
    assert_eq!(problem(world.server.key_pem()), SourceProblem::Misplaced { found, expected: "certificate" });
    let found = "a revocation list";
    assert_eq!(problem(world.crl(1, &[]).pem()), SourceProblem::Misplaced { found, expected: "certificate" });
    assert_eq!(problem(String::new()), SourceProblem::Empty);
    assert_eq!(problem(" \n".into()), SourceProblem::Empty);
    assert_eq!(problem("no PEM".into()), SourceProblem::Nothing { expected: "certificate" });
    let cut = world.root.certificate_pem().replacen("MII", "MIIAAA", 1);
    assert!(matches!(problem(cut), SourceProblem::Pem { .. } | SourceProblem::Unparsable { .. }));
}

#[test]
fn without_any_anchor_there_is_no_trust() {
    let errors = load(&[], &[], TrustOptions::default(), None).unwrap_err();
    assert_eq!(errors[0].problem, SourceProblem::Nothing { expected: "certificate" });
}

#[test]
fn an_expired_anchor_is_warned_of() {
    let old = Authority::root("Old", KeyKind::P256, signet_certs_dev::Validity::past(NOW)).unwrap();
    let (_, warnings) = load(&[old.certificate_pem()], &[], TrustOptions::default(), None).unwrap();
    assert!(
        matches!(&warnings[..], [TrustWarning::AnchorExpired { subject, ago, .. }] if subject == "CN=Old" && ago == "24 hours"),
        "{warnings:?}"
    );
}

#[test]
fn the_generation_changes_with_the_anchors_and_not_with_the_lists() {
    let world = World::new();
    let anchors = [world.root.certificate_pem(), world.issuing.certificate_pem()];
    let first = load(&anchors, &[], TrustOptions::default(), None).unwrap().0;
    let list = [world.crl(1, &[]).pem()];
    let second = load(&anchors, &list, TrustOptions::default(), Some(&first)).unwrap().0;
    assert_eq!((first.generation(), second.generation()), (1, 1));
    assert_eq!(first.anchors_hash(), second.anchors_hash());
    let third = load(&anchors[..1], &[], TrustOptions::default(), Some(&second)).unwrap().0;
    assert_eq!(third.generation(), 2);
    let eku = crate::tls::EkuRule::IfPresent;
    let rules = TrustOptions { eku, ..TrustOptions::default() };
    let fourth = load(&anchors[..1], &[], rules, Some(&third)).unwrap().0;
    assert_eq!(fourth.generation(), 3);
}

#[test]
fn many_long_authority_names_are_not_sent_to_clients() {
    let few: Vec<_> = (0..3).map(|n| root(&format!("Authority {n}")).certificate_pem()).collect();
    let many: Vec<_> = (0..30).map(|n| root(&format!("Authority {n}")).certificate_pem()).collect();
    let hints =
        |anchors: &[String]| load(anchors, &[], TrustOptions::default(), None).unwrap().0.hints().len();
    assert_eq!((hints(&few), hints(&many)), (3, 0));
}
