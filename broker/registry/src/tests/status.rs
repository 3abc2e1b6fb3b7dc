//! The states of certificates.

use super::*;

fn one(id: CertificateId) -> Selector {
    Selector::Certificate(id)
}

fn revoke(selector: Selector) -> Command {
    Command::Revoke { selector, reason: RevocationReason::Unspecified }
}

#[test]
fn the_moves_between_states_are_these_and_no_others() {
    use StatusKind::{Active, Inactive, PendingActivation, Revoked};
    let legal = [
        (PendingActivation, Active),
        (PendingActivation, Inactive),
        (PendingActivation, Revoked),
        (Active, Inactive),
        (Active, Revoked),
        (Inactive, Active),
        (Inactive, Revoked),
    ];
    for from in StatusKind::ALL {
        for to in StatusKind::ALL {
            assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} to {to}");
        }
    }
}

#[test]
fn suspending_is_reversible_and_revoking_is_not() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    world.must(Command::Suspend(one(id)));
    assert_eq!(world.standing("own", "1"), Standing::Inactive(Suspended::Certificate));
    assert_eq!(world.refused(Command::Suspend(one(id))), RegistryError::AlreadySo(StatusKind::Inactive));
    world.must(Command::Activate(one(id)));
    assert!(world.is_active(&id));
    assert_eq!(world.refused(Command::Activate(one(id))), RegistryError::AlreadySo(StatusKind::Active));
    world.must(Command::Revoke { selector: one(id), reason: RevocationReason::KeyCompromise });
    let revoked = Standing::Revoked { since: world.now, reason: RevocationReason::KeyCompromise };
    assert_eq!(world.standing("own", "1"), revoked);
    let illegal = |to| RegistryError::IllegalMove { certificate: id, from: StatusKind::Revoked, to };
    assert_eq!(world.refused(Command::Activate(one(id))), illegal(StatusKind::Active));
    assert_eq!(world.refused(Command::Suspend(one(id))), illegal(StatusKind::Inactive));
    assert_eq!(world.refused(revoke(one(id))), RegistryError::AlreadySo(StatusKind::Revoked));
}

#[test]
fn a_thing_has_two_active_certificates_and_no_third() {
    let mut world = World::new();
    let first = world.issue("1", "a").unwrap();
    world.issue("2", "a").unwrap();
    let too_many = RegistryError::TooManyActive { holder: device("a"), max: 2 };
    assert_eq!(world.issue("3", "a"), Err(too_many.clone()));
    assert!(world.issue("3", "b").is_ok());
    world.must(Command::Suspend(one(first)));
    assert!(world.issue("4", "a").is_ok());
    assert_eq!(world.refused(Command::Activate(one(first))), too_many);
    assert_eq!(world.refused(Command::Activate(Selector::thing(name("a")))), too_many);
}

#[test]
fn an_expired_certificate_gives_its_place_to_a_new_one() {
    let mut world = World::new();
    let ids = ["1", "2"].map(|label| world.issue(label, "a").unwrap());
    world.pass(31 * DAY_SECS);
    let late = testing::certificate(key("own"), "3", key("3"), world.now.unix_secs(), DAY_SECS);
    world.must(Command::Issue { certificate: late, holder: device("a") });
    for id in ids {
        assert_eq!(world.status(&id), Some(StatusKind::Inactive));
        assert_eq!(world.refused(Command::Activate(one(id))), RegistryError::Expired(id));
    }
}

#[test]
fn revoking_a_thing_revokes_all_its_certificates_and_no_others() {
    let mut world = World::new();
    let [a1, a2, b] =
        [("1", "a"), ("2", "a"), ("3", "b")].map(|(label, thing)| world.issue(label, thing).unwrap());
    world.must(revoke(Selector::thing(name("a"))));
    assert!(!world.is_active(&a1) && !world.is_active(&a2) && world.is_active(&b));
    assert!(world.registry.thing("a").unwrap().barred);
    assert_eq!(world.refused(revoke(Selector::thing(name("c")))), RegistryError::NoThing(name("c")));
    world.must(Command::AddThing(thing("c")));
    assert_eq!(world.refused(revoke(Selector::thing(name("c")))), RegistryError::NothingSelected);
}

#[test]
fn a_serial_number_selects_with_its_issuer_or_alone_while_it_is_unique() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    let serial = world.registry.certificate(&id).unwrap().facts.serial;
    let twin = testing::certificate_with_serial(key("maker"), serial, "twin");
    let twin_id = twin.facts().id;
    world.must(Command::RegisterCertificate {
        certificate: twin,
        holder: device("sn1"),
        enter: Enter::Active,
    });
    assert_eq!(
        world.refused(revoke(Selector::Serial { issuer: None, serial })),
        RegistryError::AmbiguousSerial(serial)
    );
    world.must(revoke(Selector::Serial { issuer: Some(key("maker")), serial }));
    assert!(world.is_active(&id) && !world.is_active(&twin_id));
    let nobodys = "0102".parse().unwrap();
    assert_eq!(
        world.refused(revoke(Selector::Serial { issuer: None, serial: nobodys })),
        RegistryError::NothingSelected
    );
}

#[test]
fn a_number_of_an_unknown_certificate_is_revoked_in_advance() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Auto);
    let stolen = certificate("maker", "stolen");
    let serial = stolen.facts().serial;
    assert!(matches!(world.standing("maker", "stolen"), Standing::Admissible { .. }));
    let selector = Selector::Serial { issuer: Some(key("maker")), serial };
    world.must(revoke(selector.clone()));
    assert!(matches!(world.standing("maker", "stolen"), Standing::Revoked { .. }));
    let admit = Command::AdmitUnknown { certificate: stolen, name: name("sn1") };
    assert_eq!(world.refused(admit), RegistryError::SerialRevoked(serial));
    assert_eq!(world.refused(revoke(selector)), RegistryError::AlreadySo(StatusKind::Revoked));
    let nobody = Selector::Serial { issuer: Some(key("nobody")), serial };
    assert_eq!(world.refused(revoke(nobody)), RegistryError::NoIssuer);
    let listed: Vec<_> = world.registry.revocations(&key("maker"), world.now).collect();
    assert_eq!(listed, [(serial, world.now, RevocationReason::Unspecified)]);
}

#[test]
fn revoking_an_issuers_certificates_leaves_the_authority_and_revoking_the_authority_leaves_nothing() {
    let mut world = World::new();
    let ids = ["1", "2"].map(|label| world.issue(label, label).unwrap());
    world.must(revoke(Selector::Issuer(key("own"))));
    assert!(ids.iter().all(|id| !world.is_active(id)));
    let after = world.issue("3", "3").unwrap();
    assert!(world.is_active(&after));

    let own = world.ca("own").id;
    world.must(Command::Revoke { selector: Selector::Ca(own), reason: RevocationReason::CaCompromise });
    let revoked = Standing::Revoked { since: world.now, reason: RevocationReason::CaCompromise };
    assert_eq!(world.standing("own", "3"), revoked);
    assert_eq!(world.standing("own", "never seen"), revoked);
    assert_eq!(world.issue("4", "4"), Err(RegistryError::CaRevoked(own)));
    assert_eq!(world.refused(Command::Activate(Selector::Ca(own))), RegistryError::CaRevoked(own));
    assert_eq!(world.refused(revoke(Selector::Ca(own))), RegistryError::AlreadySo(StatusKind::Revoked));
}

#[test]
fn trust_in_an_authority_is_suspended_and_given_back() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    let own = Selector::Ca(world.ca("own").id);
    world.must(Command::Suspend(own.clone()));
    assert_eq!(world.standing("own", "1"), Standing::Inactive(Suspended::Authority));
    world.must(Command::Activate(own.clone()));
    assert!(world.is_active(&id));
    assert_eq!(world.refused(Command::Activate(own)), RegistryError::AlreadySo(StatusKind::Active));
    let unknown = CaId::of(b"unknown");
    assert_eq!(world.refused(Command::Suspend(Selector::Ca(unknown))), RegistryError::NoCa(unknown));
}

#[test]
fn a_certificate_is_registered_once_and_a_number_is_given_once() {
    let mut world = World::new();
    let first = world.issue("1", "a").unwrap();
    assert_eq!(world.issue("1", "a"), Err(RegistryError::CertificateExists(first)));
    let serial = world.registry.certificate(&first).unwrap().facts.serial;
    let double = testing::certificate_with_serial(key("own"), serial, "double");
    let refused = world.refused(Command::Issue { certificate: double, holder: device("b") });
    assert_eq!(refused, RegistryError::SerialExists { serial, other: first });
    let double = testing::certificate_with_serial(key("own"), serial, "double");
    let facts = double.facts();
    let standing = world.registry.standing(&facts.id, &facts.issuer, &facts.serial, world.now);
    assert_eq!(standing, Standing::SerialConflict { registered: first });
}

#[test]
fn a_key_is_certified_for_one_holder_and_never_again_once_revoked() {
    let mut world = World::new();
    let first = world.issue("1", "a").unwrap();
    let with_key = |label, holder: &str| Command::Issue {
        certificate: certificate_with_key("own", label, "1"),
        holder: device(holder),
    };
    assert_eq!(world.refused(with_key("2", "b")), RegistryError::KeyInUse { other: first });
    let may = |world: &World, holder: &str| {
        world.registry.may_issue(IssueFor::Holder(&device(holder)), &key("1"), world.now)
    };
    assert_eq!(may(&world, "b"), Err(RegistryError::KeyInUse { other: first }));
    assert_eq!(may(&world, "a"), Ok(()));
    world.must(with_key("2", "a"));
    world.must(Command::Revoke { selector: one(first), reason: RevocationReason::Superseded });
    world.must(with_key("3", "a"));
    world.must(Command::Revoke {
        selector: Selector::thing(name("a")),
        reason: RevocationReason::KeyCompromise,
    });
    assert!(matches!(world.refused(with_key("4", "a")), RegistryError::KeyRevoked { .. }));
    let of_ca = certificate_with_key("own", "5", "own");
    let refused = world.refused(Command::Issue { certificate: of_ca, holder: device("c") });
    assert_eq!(refused, RegistryError::KeyOfCa(world.ca("own").id));
}

#[test]
fn nothing_is_issued_while_the_clock_is_behind_and_everything_else_goes_on() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    world.pass(DAY_SECS);
    let last = world.now;
    world.must(Command::AddThing(thing("b")));
    world.now = last.before(world.registry.limits().clock_behind_max);
    assert!(world.issue("2", "b").is_ok());
    world.now = Wall(world.now.0 - 1);
    let behind = RegistryError::ClockBehind { now: world.now, last };
    assert_eq!(world.issue("3", "b"), Err(behind.clone()));
    assert_eq!(world.registry.may_issue(IssueFor::Holder(&device("b")), &key("3"), world.now), Err(behind));
    world.must(revoke(one(id)));
    assert_eq!(world.must(Command::AcceptClock).len(), 1);
    assert!(world.issue("3", "b").is_ok());
    assert!(world.must(Command::AcceptClock).is_empty());
}

#[test]
fn an_expired_certificate_does_not_come_in() {
    let mut world = World::new();
    world.pass(30 * DAY_SECS);
    assert!(world.issue("1", "a").is_ok());
    world.pass(1);
    let expired = certificate("own", "2").facts().id;
    assert_eq!(world.issue("2", "a"), Err(RegistryError::Expired(expired)));
}

#[test]
fn a_record_is_deleted_only_when_it_is_of_no_more_use() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    assert_eq!(world.refused(Command::DeleteCertificate(id)), RegistryError::CertificateInUse(id));
    world.must(revoke(one(id)));
    assert_eq!(world.refused(Command::DeleteCertificate(id)), RegistryError::CertificateInUse(id));
    world.pass(31 * DAY_SECS);
    world.must(Command::DeleteCertificate(id));
    assert_eq!(world.status(&id), None);
    assert_eq!(world.effects.deleted, [id]);
    assert_eq!(world.refused(Command::DeleteCertificate(id)), RegistryError::NoCertificate(id));
    // The thing is still barred, so forgetting the certificate does not let it in.
    assert!(world.registry.thing("a").unwrap().barred);
}

#[test]
fn expired_records_are_purged_in_bounded_steps() {
    let mut world = World::new();
    for label in ["1", "2", "3"] {
        world.issue(label, label).unwrap();
    }
    let purge = |before| Command::PurgeExpired { before, at_most: 2 };
    assert!(world.must(purge(Wall(u64::MAX))).is_empty(), "the future does not make them expired");
    world.pass(40 * DAY_SECS);
    assert!(world.must(purge(START)).is_empty());
    let before = world.now;
    assert_eq!(world.must(purge(before)).len(), 2);
    assert_eq!(world.must(purge(before)).len(), 1);
    assert_eq!(world.registry.counts(), Counts::default());
}

#[test]
fn records_of_one_holder_are_bounded_and_expired_ones_make_room() {
    let mut world = World::new();
    world.registry.set_limits(Limits { certificates_per_holder_max: 2, ..Limits::default() });
    for label in ["1", "2"] {
        let id = world.issue(label, "a").unwrap();
        world.must(Command::Suspend(one(id)));
    }
    let full = RegistryError::Full { what: "certificates of one holder", max: 2 };
    assert_eq!(world.issue("3", "a"), Err(full));
    world.pass(31 * DAY_SECS);
    let late = testing::certificate(key("own"), "3", key("3"), world.now.unix_secs(), DAY_SECS);
    world.must(Command::Issue { certificate: late, holder: device("a") });
    assert_eq!(world.registry.thing("a").unwrap().certificates().len(), 2);
}
