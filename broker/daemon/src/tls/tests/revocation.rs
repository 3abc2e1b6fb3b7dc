//! Revocation lists: which are taken, and what they do.

use signet_certs_dev::{Authority, Crl, CrlProfile, CrlScope, Extension, KeyKind, LeafProfile, Serial};
use time::Duration;

use super::support::{NOW, World, build, days, ders, judge, load, long, options, root, unix};
use crate::tls::{
    CrlCoverage, Editions, Source, SourceProblem, StaleCrl, TlsListener, TlsOptions, Trust, TrustOptions,
    TrustWarning, VerifyFailure, Which,
};

fn anchors(world: &World) -> [String; 2] {
    [world.root.certificate_pem(), world.issuing.certificate_pem()]
}

/// The only problem of a list.
#[track_caller]
fn problem(world: &World, crl: &Crl) -> SourceProblem {
    let mut errors = load(&anchors(world), &[crl.pem()], TrustOptions::default(), None).unwrap_err();
    assert_eq!((errors.len(), errors[0].file.as_str()), (1, "crl-1"));
    errors.remove(0).problem
}

fn trust_with(world: &World, crls: &[String], previous: Option<&Trust>) -> super::support::Loaded {
    load(&anchors(world), crls, TrustOptions::default(), previous)
}

#[test]
fn pem_and_der_and_several_in_one_file_are_read() {
    let world = World::new();
    let roots = world.root.crl(&CrlProfile::new(1, NOW, 30, &[])).unwrap();
    let two = world.crl(1, &[]).pem() + &roots.pem();
    let (trust, warnings) = trust_with(&world, &[two], None).unwrap();
    assert_eq!((trust.crls().count(), warnings.len()), (2, 0));
    let der = Source::new("issuing.crl", world.crl(1, &[]).der());
    let ca: Vec<_> = anchors(&world).into_iter().map(|pem| Source::new("ca", pem)).collect();
    let (trust, _) = Trust::load(&ca, (&[der], &[]), None, TrustOptions::default(), None, unix(NOW)).unwrap();
    assert_eq!(trust.crls().count(), 1);
}

#[test]
fn a_list_of_an_unknown_issuer_is_refused_by_name() {
    let world = World::new();
    let crl = root("Foreign").crl(&CrlProfile::new(1, NOW, 30, &[])).unwrap();
    assert_eq!(problem(&world, &crl), SourceProblem::CrlIssuerUnknown { issuer: "CN=Foreign".into() });
}

#[test]
fn a_list_that_another_key_signed_is_refused() {
    let world = World::new();
    let namesake = root("Root").intermediate("Issuing", KeyKind::P256, long(), 0).unwrap();
    let crl = namesake.crl(&CrlProfile::new(1, NOW, 30, &[])).unwrap();
    assert_eq!(problem(&world, &crl), SourceProblem::CrlBadSignature { issuer: "CN=Issuing".into() });
}

#[test]
fn a_list_that_was_changed_is_refused() {
    let world = World::new();
    let device = world.device("d");
    let crl = world.crl(1, &[&device]);
    let mut der = crl.der().to_vec();
    let at = der.windows(16).position(|window| window == device.serial().as_bytes()).unwrap();
    der[at + 3] ^= 1;
    let ca: Vec<_> = anchors(&world).into_iter().map(|pem| Source::new("ca", pem)).collect();
    let source = [Source::new("changed.crl", der)];
    let errors =
        Trust::load(&ca, (&source, &[]), None, TrustOptions::default(), None, unix(NOW)).unwrap_err();
    assert!(matches!(errors[0].problem, SourceProblem::CrlBadSignature { .. }), "{}", errors[0]);
}

#[test]
fn delta_and_indirect_and_partial_lists_are_refused() {
    let world = World::new();
    let profile = CrlProfile::new(1, NOW, 30, &[]);
    let with = |oid: &[u8], value: &[u8]| {
        let extension = Extension { oid, critical: true, value };
        problem(&world, &world.issuing.crl_with_extension(&profile, extension).unwrap())
    };
    let delta_indicator: &[u8] = &[0x55, 0x1d, 27];
    let distribution_point: &[u8] = &[0x55, 0x1d, 28];
    assert_eq!(with(delta_indicator, &[2, 1, 1]), SourceProblem::CrlForm { form: "a delta list" });
    // indirectCRL [4] TRUE
    let indirect = with(distribution_point, &[0x30, 3, 0x84, 1, 0xff]);
    assert_eq!(indirect, SourceProblem::CrlForm { form: "an indirect list" });
    // onlySomeReasons [3] keyCompromise
    let partial = with(distribution_point, &[0x30, 4, 0x83, 2, 6, 0x40]);
    assert_eq!(partial, SourceProblem::CrlForm { form: "a list of some revocation reasons only" });
    let unknown = with(&[0x2a, 3, 4], &[5, 0]);
    assert_eq!(unknown, SourceProblem::CrlCriticalExtension { oid: "1.2.3.4".into() });
}

#[test]
fn garbage_is_refused() {
    let world = World::new();
    let errors = |text: &str| trust_with(&world, &[text.to_owned()], None).unwrap_err().remove(0).problem;
    assert_eq!(errors(""), SourceProblem::Empty);
    assert_eq!(errors("garbage"), SourceProblem::Nothing { expected: "revocation list" });
    let certificate = errors(&world.root.certificate_pem());
    assert!(matches!(certificate, SourceProblem::Misplaced { found: "a certificate", .. }));
    let cut = "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n";
    assert!(matches!(errors(cut), SourceProblem::Unparsable { .. }));
}

#[test]
fn a_list_that_goes_back_is_refused_and_the_same_or_a_newer_one_is_not() {
    let world = World::new();
    let (five, _) = trust_with(&world, &[world.crl(5, &[]).pem()], None).unwrap();
    let errors = trust_with(&world, &[world.crl(4, &[]).pem()], Some(&five)).unwrap_err();
    assert!(
        matches!(&errors[0].problem, SourceProblem::CrlWentBack { issuer, .. } if issuer == "CN=Issuing"),
        "{}",
        errors[0]
    );
    for number in [5, 6, 256, 65_536] {
        trust_with(&world, &[world.crl(number, &[]).pem()], Some(&five)).unwrap();
    }
    let older = CrlProfile::new(5, NOW - Duration::hours(1), 30, &[]);
    let older = world.issuing.crl(&older).unwrap();
    let errors = trust_with(&world, &[older.pem()], Some(&five)).unwrap_err();
    assert!(
        matches!(errors[0].problem, SourceProblem::CrlWentBack { .. }),
        "an equal number of an earlier time"
    );
    // Another issuer's numbers are its own.
    let roots = world.root.crl(&CrlProfile::new(1, NOW, 30, &[])).unwrap();
    trust_with(&world, &[world.crl(5, &[]).pem(), roots.pem()], Some(&five)).unwrap();
}

#[test]
fn of_two_editions_the_newer_counts_whatever_their_order() {
    let world = World::new();
    let device = world.device("d");
    let (old, new) = (world.crl(1, &[]), world.crl(2, &[&device]));
    for order in [[&old, &new], [&new, &old]] {
        let sources = world.sources_with(&order);
        let (listener, warnings) = TlsListener::build(&sources, &options(), None, unix(NOW)).unwrap();
        assert!(matches!(&warnings[..], [TrustWarning::CrlSuperseded { .. }]), "{warnings:?}");
        assert_eq!(judge(&listener, &device).unwrap_err().metric_label(), "revoked");
    }
}

#[test]
fn a_revoked_intermediate_takes_all_its_devices_with_it() {
    let world = World::new();
    let device = world.device("d");
    let crl = world.root.crl(&CrlProfile::new(1, NOW, 30, &[world.issuing.serial()])).unwrap();
    let mut sources = world.sources();
    sources.crl = vec![Source::new("root.crl", crl.pem())];
    let trust = TrustOptions { coverage: CrlCoverage::IfPresent, ..TrustOptions::default() };
    let listener = build(&sources, &TlsOptions { trust, ..options() });
    let failure = judge(&listener, &device).unwrap_err();
    assert_eq!(failure, VerifyFailure::Revoked { which: Which::Authority, issuer: "CN=Root".into() });
}

#[test]
fn an_anchor_that_a_list_revokes_is_no_anchor() {
    let world = World::new();
    let device = world.device("d");
    let crl = world.root.crl(&CrlProfile::new(1, NOW, 30, &[world.issuing.serial()])).unwrap();
    let mut sources = world.sources_with(&[&crl]);
    let trust = TrustOptions { coverage: CrlCoverage::IfPresent, ..TrustOptions::default() };
    let options = TlsOptions { trust, ..options() };
    let (listener, warnings) = TlsListener::build(&sources, &options, None, unix(NOW)).unwrap();
    assert!(
        matches!(&warnings[..], [TrustWarning::AnchorRevoked { subject, .. }] if subject == "CN=Issuing")
    );
    assert_eq!(judge(&listener, &device).unwrap_err().metric_label(), "revoked");
    let leaf_only = ders(&device.chain()[..1]);
    assert_eq!(listener.judge(&leaf_only, unix(NOW)).unwrap_err().metric_label(), "unknown_issuer");
    // The root alone, revoked by itself: nobody is left.
    let suicide = world.root.crl(&CrlProfile::new(2, NOW, 30, &[world.root.serial()])).unwrap();
    sources.client_ca.truncate(1);
    sources.crl = vec![Source::new("root.crl", suicide.pem())];
    let errors = TlsListener::build(&sources, &options, None, unix(NOW)).unwrap_err();
    assert_eq!(errors[0].problem, SourceProblem::EveryAnchorRevoked);
}

#[test]
fn serials_belong_to_their_issuer() {
    // Two authorities gave the same serial; one of the two certificates is revoked.
    let world = World::new();
    let other = root("Other");
    let profile = LeafProfile::device("d", days(90)).with_serial(&[0x41, 0x42]);
    let (mine, others) = (world.issuing.issue(&profile).unwrap(), other.issue(&profile).unwrap());
    let mut sources = world.sources_with(&[&world.crl(1, &[&mine])]);
    sources.client_ca.push(Source::new("other.crt", other.certificate_pem()));
    let others_crl = other.crl(&CrlProfile::new(1, NOW, 30, &[])).unwrap();
    sources.crl.push(Source::new("other.crl", others_crl.pem()));
    let listener = build(&sources, &options());
    assert_eq!(judge(&listener, &mine).unwrap_err().metric_label(), "revoked");
    judge(&listener, &others).unwrap();
}

#[test]
fn a_serial_is_found_with_and_without_its_sign_octet() {
    let world = World::new();
    // 0x80.. is written with a zero before it.
    let profile = LeafProfile::device("d", days(90)).with_serial(&[0x80, 1]);
    let leaf = world.issuing.issue(&profile).unwrap();
    let listed = Serial::from_bytes(&[0x00, 0x80, 1]);
    let crl = world.issuing.crl(&CrlProfile::new(1, NOW, 30, &[&listed])).unwrap();
    let listener = build(&world.sources_with(&[&crl]), &options());
    assert_eq!(judge(&listener, &leaf).unwrap_err().metric_label(), "revoked");
}

#[test]
fn stale_lists_do_what_the_policy_says() {
    let world = World::new();
    let (good, bad) = (world.device("good"), world.device("bad"));
    let profile = CrlProfile::new(1, NOW - Duration::days(30), 29, &[bad.serial()]);
    let crl = world.issuing.crl(&profile).unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let judged = |stale| {
        let trust = TrustOptions { stale, ..TrustOptions::default() };
        let options = TlsOptions { trust, ..options() };
        let (listener, warnings) =
            TlsListener::build(&world.sources_with(&[&crl]), &options, None, unix(NOW)).unwrap();
        assert!(matches!(&warnings[..], [TrustWarning::CrlStale { ago, .. }] if ago == "24 hours"));
        assert_eq!(judge(&listener, &bad).unwrap_err().metric_label(), "revoked");
        judge(&listener, &good).map(drop).map_err(|failure| failure.metric_label())
    };
    assert_eq!(judged(StaleCrl::Reject), Err("crl_stale"));
    assert_eq!(judged(StaleCrl::Grace(day / 2)), Err("crl_stale"));
    assert_eq!(judged(StaleCrl::Grace(day)), Ok(()));
    assert_eq!(judged(StaleCrl::Warn), Ok(()));
}

#[test]
fn a_list_that_becomes_stale_while_it_is_in_force_is_stale() {
    let world = World::new();
    let device = world.issuing.issue(&LeafProfile::device("d", days(900))).unwrap();
    let listener = build(&world.sources_with(&[&world.crl(1, &[])]), &options());
    let judged = judge(&listener, &device).unwrap();
    let later = unix(NOW + Duration::days(31));
    assert_eq!(listener.judge(&ders(&device.chain()), later).unwrap_err().metric_label(), "crl_stale");
    assert_eq!(listener.judge_again(&judged, later).unwrap_err().metric_label(), "crl_stale");
}

#[test]
fn a_stale_list_of_one_issuer_leaves_the_others_devices_alone() {
    let world = World::new();
    let other = root("Other");
    let leaf = other.issue(&LeafProfile::device("d", days(90))).unwrap();
    let stale = world.issuing.crl(&CrlProfile::new(1, NOW - Duration::days(60), 30, &[])).unwrap();
    let mut sources = world.sources_with(&[&stale]);
    sources.client_ca.push(Source::new("other.crt", other.certificate_pem()));
    sources.crl.push(Source::new("other.crl", other.crl(&CrlProfile::new(1, NOW, 30, &[])).unwrap().pem()));
    let listener = build(&sources, &options());
    judge(&listener, &leaf).unwrap();
    assert_eq!(judge(&listener, &world.device("d")).unwrap_err().metric_label(), "crl_stale");
}

#[test]
fn what_a_stale_list_means_can_be_said_for_one_issuer() {
    let world = World::new();
    let other = root("Other");
    let stale = |authority: &Authority| {
        let crl = authority.crl(&CrlProfile::new(1, NOW - Duration::days(60), 30, &[])).unwrap();
        Source::new("stale.crl", crl.pem())
    };
    let mut sources = world.sources_with(&[]);
    sources.client_ca.push(Source::new("other.crt", other.certificate_pem()));
    sources.crl = vec![stale(&world.issuing), stale(&other)];
    sources.stale_by_issuer = vec![("CN=Other".to_owned(), StaleCrl::Warn)];
    let listener = build(&sources, &options());
    judge(&listener, &other.issue(&LeafProfile::device("d", days(90))).unwrap()).unwrap();
    assert_eq!(judge(&listener, &world.device("d")).unwrap_err().metric_label(), "crl_stale");
    // A name that fits no list is a mistake, and not a rule for nobody.
    sources.stale_by_issuer = vec![("CN=Othr".to_owned(), StaleCrl::Warn)];
    let errors = TlsListener::build(&sources, &options(), None, unix(NOW)).unwrap_err();
    assert!(errors[0].to_string().contains("CN=Other"), "{}", errors[0]);
}

#[test]
fn an_issuer_without_a_list_is_unknown_standing_unless_the_coverage_says_otherwise() {
    let world = World::new();
    let other = root("Other");
    let leaf = other.issue(&LeafProfile::device("d", days(90))).unwrap();
    let device = world.device("d");
    let judged = |coverage| {
        let mut sources = world.sources_with(&[&world.crl(1, &[])]);
        // Only through the root, so that the issuing authority is a certificate of the path.
        sources.client_ca.push(Source::new("other.crt", other.certificate_pem()));
        let trust = TrustOptions { coverage, ..TrustOptions::default() };
        let listener = build(&sources, &TlsOptions { trust, ..options() });
        [&leaf, &device]
            .map(|leaf| judge(&listener, leaf).map(drop).map_err(|failure| failure.metric_label()))
    };
    assert_eq!(judged(CrlCoverage::IfPresent), [Ok(()), Ok(())]);
    assert_eq!(judged(CrlCoverage::Leaf), [Err("crl_missing"), Ok(())]);
    assert_eq!(judged(CrlCoverage::Chain)[0], Err("crl_missing"));
}

#[test]
fn a_list_of_authorities_only_says_nothing_of_devices() {
    let world = World::new();
    let scoped = |scope, number| {
        let profile = CrlProfile { scope: Some(scope), ..CrlProfile::new(number, NOW, 30, &[]) };
        world.issuing.crl(&profile).unwrap()
    };
    let device = world.device("d");
    let authorities = scoped(CrlScope::Authorities, 7);
    let listener = build(&world.sources_with(&[&authorities]), &options());
    assert_eq!(judge(&listener, &device).unwrap_err().metric_label(), "crl_missing");
    // The two scopes stand side by side, with numbers of their own.
    let users = scoped(CrlScope::Users, 3);
    let listener = build(&world.sources_with(&[&authorities, &users]), &options());
    assert_eq!(listener.trust().crls().count(), 2);
    judge(&listener, &device).unwrap();
}

#[test]
fn a_list_of_an_authority_that_only_the_clients_send_is_refused_with_the_way_out() {
    let world = World::new();
    let crl = world.crl(1, &[]);
    let errors =
        load(&[world.root.certificate_pem()], &[crl.pem()], TrustOptions::default(), None).unwrap_err();
    let unknown = SourceProblem::CrlIssuerUnknown { issuer: "CN=Issuing".into() };
    assert_eq!(errors[0].problem, unknown, "known to clients only, so its list cannot be verified");
    assert!(errors[0].to_string().contains("into this file too"));
}

#[test]
fn the_issuer_of_a_list_may_stand_beside_it_and_need_not_be_an_anchor() {
    let world = World::new();
    let (good, bad) = (world.device("good"), world.device("bad"));
    let mut sources = world.sources();
    // Trusted: the root alone. The list's issuer is in the list's file, whatever comes first, and nowhere else.
    sources.certificate = Source::new("server.crt", world.server.certificate_pem());
    for pem in [
        world.crl(1, &[&bad]).pem() + &world.issuing.certificate_pem(),
        world.issuing.certificate_pem() + &world.crl(1, &[&bad]).pem(),
    ] {
        sources.crl = vec![Source::new("issuing.crl", pem)];
        let listener = build(&sources, &options());
        judge(&listener, &good).unwrap();
        assert_eq!(judge(&listener, &bad).unwrap_err().metric_label(), "revoked");
        // It is not an anchor by that: a leaf alone stays without an issuer.
        let leaf_only = ders(&good.chain()[..1]);
        assert_eq!(listener.judge(&leaf_only, unix(NOW)).unwrap_err().metric_label(), "unknown_issuer");
    }
}

#[test]
fn the_issuer_of_a_list_may_stand_in_the_servers_chain() {
    let world = World::new();
    let bad = world.device("bad");
    let mut sources = world.sources();
    sources.crl = vec![Source::new("issuing.crl", world.crl(1, &[&bad]).pem())];
    let listener = build(&sources, &options());
    assert_eq!(judge(&listener, &bad).unwrap_err().metric_label(), "revoked");
    judge(&listener, &world.device("good")).unwrap();
}

#[test]
fn nobody_vouches_for_the_issuer_of_a_list_but_an_anchor_that_may() {
    let world = World::new();
    let unknown = SourceProblem::CrlIssuerUnknown { issuer: "CN=Issuing".into() };
    let refused = |anchors: &[String], file: String| {
        load(anchors, &[file], TrustOptions::default(), None).unwrap_err().remove(0).problem
    };
    let anchors = [world.root.certificate_pem()];
    // The same names under a root that is not trusted.
    let foreign = root("Root").intermediate("Issuing", KeyKind::P256, long(), 0).unwrap();
    let list = |issuing: &Authority| {
        issuing.crl(&CrlProfile::new(1, NOW, 30, &[])).unwrap().pem() + &issuing.certificate_pem()
    };
    assert_eq!(refused(&anchors, list(&foreign)), unknown);
    // A root whose path length has no room for another authority.
    let narrow = root("Root").intermediate("Narrow", KeyKind::P256, long(), 0).unwrap();
    let below = narrow.intermediate("Issuing", KeyKind::P256, long(), 0).unwrap();
    assert_eq!(refused(&[narrow.certificate_pem()], list(&below)), unknown);
    // A device is no authority, whoever signed it.
    let device = world.device("Issuing").certificate_pem();
    assert_eq!(refused(&anchors, world.crl(1, &[]).pem() + &device), unknown);
    // Two steps below the anchor is as good as one.
    let upper = root("Upper");
    let middle = upper.intermediate("Middle", KeyKind::P256, long(), 1).unwrap();
    let lower = middle.intermediate("Issuing", KeyKind::P256, long(), 0).unwrap();
    let file = list(&lower) + &middle.certificate_pem();
    load(&[upper.certificate_pem()], &[file], TrustOptions::default(), None).unwrap();
}

#[test]
fn a_list_that_is_older_than_one_seen_before_a_restart_is_refused() {
    let world = World::new();
    let before = build(&world.sources_with(&[&world.crl(7, &[])]), &options());
    let mut editions = Editions::default();
    before.trust().editions().for_each(|edition| assert!(editions.see(edition)));
    let start = |number| {
        let mut sources = world.sources_with(&[&world.crl(number, &[])]);
        sources.editions = editions.clone();
        TlsListener::build(&sources, &options(), None, unix(NOW))
    };
    let errors = start(6).unwrap_err();
    assert!(
        matches!(&errors[..], [error] if matches!(error.problem, SourceProblem::CrlBehindMemory { .. })),
        "{errors:?}"
    );
    let said = errors[0].to_string();
    assert!(said.contains("revocation-lists.json") && said.contains("hint"), "{said}");
    start(7).unwrap();
    start(8).unwrap();
}

#[test]
fn a_list_that_is_older_than_a_published_one_is_warned_of() {
    let world = World::new();
    let published = build(&world.sources_with(&[&world.crl(7, &[])]), &options());
    let mut editions = Editions::default();
    published.trust().editions().for_each(|edition| assert!(editions.publish(edition)));
    let warnings = |number| {
        let mut sources = world.sources_with(&[&world.crl(number, &[])]);
        sources.editions = editions.clone();
        TlsListener::build(&sources, &options(), None, unix(NOW)).unwrap().1
    };
    assert!(
        matches!(&warnings(6)[..], [TrustWarning::CrlBehindPublished { file, .. }] if file == "issuing.crl")
    );
    assert_eq!(warnings(7), []);
}

#[test]
fn an_old_copy_at_one_listener_gives_way_to_the_newer_list_of_another() {
    let world = World::new();
    let bad = world.device("bad");
    let newest = Source::new("a.crl", world.crl(5, &[&bad]).pem());
    let mut editions = Editions::default();
    let other = build(&world.sources_with(&[&world.crl(5, &[&bad])]), &options());
    other.trust().editions().for_each(|edition| assert!(editions.see(edition)));
    let start = |elsewhere: &[Source]| {
        let mut sources = world.sources_with(&[&world.crl(4, &[])]);
        sources.editions = editions.clone();
        sources.crl_elsewhere = elsewhere.to_vec();
        TlsListener::build(&sources, &options(), None, unix(NOW))
    };
    let (listener, warnings) = start(std::slice::from_ref(&newest)).unwrap();
    assert_eq!(judge(&listener, &bad).unwrap_err().metric_label(), "revoked");
    assert!(
        matches!(&warnings[..], [TrustWarning::CrlBehindCopy { file, newer, .. }] if file == "issuing.crl" && newer == "a.crl"),
        "{warnings:?}"
    );
    // Not by a list of the same name that nobody here trusts, and not by none.
    let foreign = root("Root").intermediate("Issuing", KeyKind::P256, long(), 0).unwrap();
    let foreign = foreign.crl(&CrlProfile::new(9, NOW, 30, &[])).unwrap().pem();
    for elsewhere in [&[][..], &[Source::new("foreign.crl", foreign)]] {
        let errors = start(elsewhere).unwrap_err();
        assert!(matches!(errors[0].problem, SourceProblem::CrlBehindMemory { .. }), "{errors:?}");
    }
    // A listener without lists does not get others'.
    let mut without = world.sources();
    without.crl_elsewhere = vec![newest];
    let listener = TlsListener::build(&without, &options(), None, unix(NOW)).unwrap().0;
    assert_eq!(listener.trust().crls().count(), 0);
    judge(&listener, &bad).unwrap();
}

#[test]
fn a_list_near_its_end_or_from_the_future_is_warned_of() {
    let world = World::new();
    let warnings = |profile: CrlProfile| {
        trust_with(&world, &[world.issuing.crl(&profile).unwrap().pem()], None).unwrap().1
    };
    let nearly_over = |days, left| {
        let made = NOW - Duration::days(days - left);
        warnings(CrlProfile::new(1, made, days, &[]))
    };
    assert!(matches!(&nearly_over(90, 6)[..], [TrustWarning::CrlDue { .. }]));
    assert_eq!(nearly_over(90, 8), []);
    // Of a short one the last third, so that it is not always nearly over.
    assert!(matches!(&nearly_over(6, 1)[..], [TrustWarning::CrlDue { .. }]));
    assert_eq!(nearly_over(6, 3), []);
    let future = CrlProfile::new(1, NOW + Duration::days(1), 30, &[]);
    assert!(matches!(&warnings(future)[..], [TrustWarning::CrlFromTheFuture { .. }]));
    assert_eq!(warnings(CrlProfile::new(1, NOW, 30, &[])), []);
}

#[test]
fn live_connections_are_judged_again_without_their_chain() {
    let world = World::new();
    let (good, bad) = (world.device("good"), world.device("bad"));
    let before = build(&world.sources_with(&[&world.crl(1, &[])]), &options());
    let (good, bad_judged) = (judge(&before, &good).unwrap(), judge(&before, &bad).unwrap());
    let sources = world.sources_with(&[&world.crl(2, &[&bad])]);
    let (after, _) = TlsListener::build(&sources, &options(), Some(&before), unix(NOW)).unwrap();
    assert_eq!(after.judge_again(&good, unix(NOW)), Ok(()));
    assert_eq!(after.judge_again(&bad_judged, unix(NOW)).unwrap_err().metric_label(), "revoked");
    let expired = unix(NOW + Duration::days(91));
    assert_eq!(after.judge_again(&good, expired).unwrap_err().metric_label(), "expired");
    // Its anchor is gone, another has come.
    let mut sources = world.sources();
    sources.client_ca = vec![Source::new("other.crt", root("Other").certificate_pem())];
    let (other, _) = TlsListener::build(&sources, &options(), Some(&after), unix(NOW)).unwrap();
    assert_eq!(other.judge_again(&good, unix(NOW)), Err(VerifyFailure::AnchorRemoved));
}

#[test]
fn a_new_authority_beside_the_old_one_disturbs_no_live_connection() {
    let world = World::new();
    let before = world.listener();
    let judged = judge(&before, &world.device("d")).unwrap();
    let mut sources = world.sources();
    sources.client_ca.push(Source::new("new.crt", root("New").certificate_pem()));
    let (after, _) = TlsListener::build(&sources, &options(), Some(&before), unix(NOW)).unwrap();
    assert_eq!(after.judge_again(&judged, unix(NOW)), Ok(()));
}

#[test]
fn a_hundred_thousand_entries_are_a_hash_set_and_verified_once() {
    let world = World::new();
    let device = world.device("d");
    let mut serials: Vec<Serial> =
        (0..99_999_u32).map(|n| Serial::from_bytes(&[&[0x40][..], &n.to_be_bytes()].concat())).collect();
    let authority: &Authority = &world.issuing;
    let build_with = |serials: &[Serial]| {
        let refs: Vec<_> = serials.iter().collect();
        let crl = authority.crl(&CrlProfile::new(serials.len() as u64, NOW, 30, &refs)).unwrap();
        build(&world.sources_with(&[&crl]), &options())
    };
    let listener = build_with(&serials);
    assert_eq!(listener.trust().crls().next().unwrap().entries, 99_999);
    judge(&listener, &device).unwrap();
    serials.push(device.serial().clone());
    let listener = build_with(&serials);
    assert_eq!(listener.trust().crls().next().unwrap().entries, 100_000);
    assert_eq!(judge(&listener, &device).unwrap_err().metric_label(), "revoked");
}
