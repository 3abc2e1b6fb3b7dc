//! Enrolment by claim, rotation, one-time tokens.

use super::*;

pub(super) fn token(text: &str) -> TokenHash {
    TokenHash::of(text.as_bytes())
}

const HOUR_SECS: i64 = 3600;

impl World {
    /// Has the certificate `label` signed by request of `asker`, with an ownership token of that name.
    pub(super) fn begin(
        &mut self,
        label: &str,
        asker: CertificateId,
    ) -> Result<CertificateId, RegistryError> {
        self.begin_with_key(label, label, asker)
    }

    pub(super) fn begin_with_key(
        &mut self,
        label: &str,
        key: &str,
        asker: CertificateId,
    ) -> Result<CertificateId, RegistryError> {
        let certificate = testing::certificate(
            super::key("own"),
            label,
            super::key(key),
            self.now.unix_secs(),
            30 * DAY_SECS,
        );
        let id = certificate.facts().id;
        let until = Wall(self.now.0 + 1000 * HOUR_SECS as u64);
        self.run(Command::BeginEnrolment { certificate, asker, token: token(label), until }).map(|_| id)
    }

    pub(super) fn register(&mut self, registration: RegisterThing) -> Result<Vec<Event>, RegistryError> {
        self.run(Command::RegisterThing(Box::new(registration)))
    }

    /// Both steps; the claim is asked with the ownership token `label`.
    pub(super) fn enrol(
        &mut self,
        label: &str,
        asker: CertificateId,
        holder: &str,
    ) -> Result<CertificateId, RegistryError> {
        let id = self.begin(label, asker)?;
        self.register(registration(label, asker, holder)).map(|_| id)
    }
}

pub(super) fn registration(label: &str, asker: CertificateId, holder: &str) -> RegisterThing {
    RegisterThing {
        token: token(label),
        asker,
        template: template_name("fleet"),
        thing: thing(holder),
        serial: None,
        if_exists: IfExists::Refuse,
        enter: Enter::Active,
        never_connected: Vec::new(),
    }
}

pub(super) fn rotation(label: &str, asker: CertificateId, holder: &str) -> RegisterThing {
    RegisterThing { template: template_name("rotation"), ..registration(label, asker, holder) }
}

#[test]
fn a_claimed_certificate_waits_until_its_thing_is_registered() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let id = world.begin("1", claim).unwrap();
    assert_eq!(world.status(&id), Some(StatusKind::PendingActivation));
    assert!(!world.is_active(&id));
    assert_eq!(world.registry.claim("line-1").unwrap().pending(), 1);
    assert_eq!(world.refused(Command::Activate(Selector::Certificate(id))), RegistryError::Unbound(id));
    world.register(registration("1", claim, "a")).unwrap();
    assert!(world.is_active(&id));
    let claim = world.registry.claim("line-1").unwrap();
    assert_eq!((claim.pending(), claim.devices), (0, 1));
}

#[test]
fn an_ownership_token_works_once_for_its_owner_until_its_end() {
    let mut world = World::new();
    let [claim, other] = ["line-1", "line-2"].map(|name| world.add_claim(name, |_| {}));
    let id = world.begin("1", claim).unwrap();
    for stolen in [registration("1", other, "a"), registration("2", claim, "a")] {
        assert_eq!(world.register(stolen), Err(RegistryError::OwnershipToken));
    }
    world.register(registration("1", claim, "a")).unwrap();
    assert_eq!(world.register(registration("1", claim, "b")), Err(RegistryError::OwnershipToken));
    assert!(world.registry.thing("b").is_none());

    world.begin("late", claim).unwrap();
    world.pass(HOUR_SECS - 1);
    assert!(world.must(Command::ExpirePending { at_most: 10 }).is_empty());
    world.pass(1);
    assert_eq!(world.register(registration("late", claim, "c")), Err(RegistryError::OwnershipToken));
    assert_eq!(world.must(Command::ExpirePending { at_most: 10 }).len(), 1);
    assert_eq!(world.registry.counts().pending, 0);
    assert!(world.is_active(&id));
}

#[test]
fn the_same_token_is_not_given_twice() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    world.begin("1", claim).unwrap();
    let command = Command::BeginEnrolment {
        certificate: certificate("own", "2"),
        asker: claim,
        token: token("1"),
        until: Wall(u64::MAX),
    };
    assert_eq!(world.refused(command), RegistryError::OwnershipToken);
}

#[test]
fn a_thing_that_was_provisioned_is_not_provisioned_again_by_a_claim() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let first = world.enrol("1", claim, "a").unwrap();
    world.pass(60);
    assert_eq!(world.enrol("2", claim, "a"), Err(RegistryError::AlreadyProvisioned(name("a"))));
    assert!(world.is_active(&first));
    // One that an operator put into the registry in advance, without a certificate, is.
    world.must(Command::AddThing(thing("b")));
    world.begin("3", claim).unwrap();
    assert_eq!(world.register(registration("3", claim, "b")), Err(RegistryError::ThingExists(name("b"))));
    let keep = RegisterThing { if_exists: IfExists::Keep, ..registration("3", claim, "b") };
    world.register(keep).unwrap();
}

#[test]
fn a_device_whose_answer_got_lost_starts_over() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |claim| claim.devices_max = Some(1));
    let lost = world.enrol("1", claim, "a").unwrap();
    // Whoever comes in the same moment is another device of the same name.
    world.begin("2", claim).err().unwrap();
    let mut world = World::new();
    let claim = world.add_claim("line-1", |claim| claim.devices_max = Some(2));
    let first = world.enrol("1", claim, "a").unwrap();
    assert_eq!(first, lost);
    world.begin("2", claim).unwrap();
    let again = RegisterThing { never_connected: vec![first], ..registration("2", claim, "a") };
    assert_eq!(world.register(again.clone()), Err(RegistryError::AlreadyProvisioned(name("a"))));
    world.pass(3);
    let connected = RegisterThing { never_connected: Vec::new(), ..again.clone() };
    assert_eq!(world.register(connected), Err(RegistryError::AlreadyProvisioned(name("a"))));
    world.register(again).unwrap();
    assert_eq!(world.status(&first), Some(StatusKind::Revoked));
    assert_eq!(world.registry.claim("line-1").unwrap().devices, 1, "it is the same device");
    assert!(!world.registry.thing("a").unwrap().barred);
}

#[test]
fn a_lost_answer_of_one_claim_is_not_for_another_nor_for_what_an_operator_issued() {
    let mut world = World::new();
    let [claim, other] = ["line-1", "line-2"].map(|name| world.add_claim(name, |_| {}));
    let first = world.enrol("1", claim, "a").unwrap();
    let factory = world.issue("f", "b").unwrap();
    world.pass(60);
    for (label, thing, id) in [("2", "a", first), ("3", "b", factory)] {
        world.begin(label, other).unwrap();
        let take = RegisterThing { never_connected: vec![id], ..registration(label, other, thing) };
        assert_eq!(world.register(take), Err(RegistryError::AlreadyProvisioned(name(thing))));
        assert!(world.is_active(&id));
    }
}

#[test]
fn a_device_with_the_same_key_starts_over_at_once() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let first = world.enrol("1", claim, "a").unwrap();
    let second = world.begin_with_key("2", "1", claim).unwrap();
    assert_eq!(world.register(registration("2", claim, "b")), Err(RegistryError::KeyInUse { other: first }));
    let never_connected = vec![first];
    world.register(RegisterThing { never_connected, ..registration("2", claim, "a") }).unwrap();
    assert!(world.is_active(&second) && !world.is_active(&first));
}

#[test]
fn a_revoked_thing_is_provisioned_again_only_with_an_approval() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let first = world.enrol("1", claim, "a").unwrap();
    world.must(Command::Revoke {
        selector: Selector::thing(name("a")),
        reason: RevocationReason::PrivilegeWithdrawn,
    });
    world.pass(60);
    world.begin("2", claim).unwrap();
    let again = RegisterThing {
        if_exists: IfExists::Keep,
        never_connected: vec![first],
        ..registration("2", claim, "a")
    };
    assert_eq!(world.register(again.clone()), Err(RegistryError::Barred(name("a"))));
    let until = Some(Wall(world.now.0 + 1000));
    world.must(Command::ApproveThing { thing: name("a"), until });
    world.register(again).unwrap();
    assert!(world.registry.stands(&device("a"), world.now));
    assert_eq!(world.enrol("3", claim, "a"), Err(RegistryError::AlreadyProvisioned(name("a"))));
}

#[test]
fn an_existing_thing_is_adjusted_part_by_part() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let groups = |names: &[&str]| {
        Groups::new(names.iter().map(|name| signet_identity::GroupName::try_from(*name).unwrap()).collect())
            .unwrap()
    };
    let attributes = |pairs: &[(&str, &str)]| {
        Attributes::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
            .unwrap()
    };
    let old = ThingSpec {
        thing_type: Some(ThingType(name("old"))),
        attributes: attributes(&[("kept", "1"), ("changed", "1")]),
        groups: groups(&["kept"]),
        ..thing("a")
    };
    world.must(Command::AddThing(old));
    let given = ThingSpec {
        thing_type: Some(ThingType(name("new"))),
        attributes: attributes(&[("changed", "2"), ("added", "2")]),
        groups: groups(&["listed", "policy"]),
        ..thing("a")
    };
    let overrides = Overrides {
        replace_type: false,
        attributes: Override::Merge,
        groups: Override::Keep,
        join: groups(&["policy"]),
    };
    world.begin("1", claim).unwrap();
    let if_exists = IfExists::Adjust(overrides);
    world.register(RegisterThing { thing: given, if_exists, ..registration("1", claim, "a") }).unwrap();
    let found = &world.registry.thing("a").unwrap().spec;
    assert_eq!(found.thing_type, Some(ThingType(name("old"))));
    assert_eq!(found.attributes, attributes(&[("kept", "1"), ("changed", "2"), ("added", "2")]));
    assert_eq!(found.groups, groups(&["kept", "policy"]));
}

#[test]
fn of_fifty_devices_with_one_serial_number_one_wins() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let labels: Vec<String> = (0..50).map(|i| format!("{i}")).collect();
    let ids: Vec<_> = labels.iter().map(|label| world.begin(label, claim).unwrap()).collect();
    let mut won = 0;
    for label in &labels {
        let never_connected = ids.clone();
        let if_exists = IfExists::Replace;
        won += usize::from(
            world
                .register(RegisterThing { never_connected, if_exists, ..registration(label, claim, "a") })
                .is_ok(),
        );
    }
    assert_eq!(won, 1);
    assert_eq!(ids.iter().filter(|id| world.is_active(id)).count(), 1);
}

#[test]
fn a_claim_asks_for_its_templates_only_and_not_when_it_is_closed() {
    let mut world = World::new();
    let until = Wall(START.0 + 1000 * HOUR_SECS as u64);
    let claim = world.add_claim("line-1", |claim| claim.until = Some(until));
    world.begin("1", claim).unwrap();
    let other = RegisterThing { template: template_name("rotation"), ..registration("1", claim, "a") };
    assert_eq!(world.register(other), Err(RegistryError::TemplateNotAllowed(template_name("rotation"))));
    world.must(Command::SuspendClaim { claim: name("line-1"), suspended: true });
    let closed = RegistryError::ClaimClosed(name("line-1"));
    assert_eq!(world.register(registration("1", claim, "a")), Err(closed.clone()));
    assert_eq!(world.begin("2", claim), Err(closed.clone()));
    let may = world.registry.may_issue(IssueFor::Enrolment(&claim), &key("2"), world.now);
    assert_eq!(may, Err(closed.clone()));
    world.must(Command::SuspendClaim { claim: name("line-1"), suspended: false });
    world.register(registration("1", claim, "a")).unwrap();
    world.now = until;
    assert_eq!(world.begin("2", claim), Err(closed));
}

#[test]
fn a_claim_brings_in_as_many_devices_as_it_may_and_only_those_of_its_list() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |claim| {
        claim.devices_max = Some(2);
        claim.listed_only = true;
    });
    let serials = |all: &[&str]| Command::AddClaimSerials {
        claim: name("line-1"),
        serials: all.iter().map(|serial| (*serial).into()).collect(),
    };
    assert_eq!(world.must(serials(&["s1", "s2", "s3"])).len(), 1);
    assert!(world.must(serials(&["s2"])).is_empty());
    assert_eq!(world.refused(serials(&["s4", "a\nb"])), RegistryError::DeviceSerial { position: 2 });
    assert_eq!(world.refused(serials(&[""])), RegistryError::DeviceSerial { position: 1 });
    let with = |label, holder, serial: &str| RegisterThing {
        serial: Some(serial.into()),
        ..registration(label, claim, holder)
    };
    world.begin("1", claim).unwrap();
    let unlisted = RegistryError::SerialNotListed(name("line-1"));
    assert_eq!(world.register(with("1", "a", "s9")), Err(unlisted.clone()));
    assert_eq!(world.register(registration("1", claim, "a")), Err(unlisted));
    world.register(with("1", "a", "s1")).unwrap();
    world.begin("2", claim).unwrap();
    world.begin("3", claim).unwrap();
    world.register(with("2", "b", "s2")).unwrap();
    let spent = RegistryError::ClaimSpent { claim: name("line-1"), what: "devices", max: 2 };
    assert_eq!(world.register(with("3", "c", "s3")), Err(spent.clone()));
    assert_eq!(world.begin("4", claim), Err(spent));
}

#[test]
fn a_long_list_of_serial_numbers_survives_a_restart() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |claim| claim.listed_only = true);
    for block in 0..3 {
        let serials = (0..SERIALS_AT_ONCE_MAX).map(|i| format!("s{block}-{i}").into()).collect();
        world.must(Command::AddClaimSerials { claim: name("line-1"), serials });
    }
    let too_many = Command::AddClaimSerials {
        claim: name("line-1"),
        serials: (0..=SERIALS_AT_ONCE_MAX).map(|i| format!("t{i}").into()).collect(),
    };
    assert!(matches!(world.refused(too_many), RegistryError::Full { .. }));
    world.begin("1", claim).unwrap();
    let again = Registry::replay(Limits::default(), &world.events);
    assert_eq!(again, world.registry);
    assert!(again.claim("line-1").unwrap().admits_serial("s2-999"));
    assert!(!again.claim("line-1").unwrap().admits_serial("t0"));
}

#[test]
fn what_a_claim_leaves_pending_is_bounded() {
    let mut world = World::new();
    world.registry.set_limits(Limits { pending_per_claim_max: 2, pending_max: 3, ..Limits::default() });
    let [claim, other] = ["line-1", "line-2"].map(|name| world.add_claim(name, |_| {}));
    world.begin("1", claim).unwrap();
    world.begin("2", claim).unwrap();
    let spent = RegistryError::ClaimSpent { claim: name("line-1"), what: "pending certificates", max: 2 };
    assert_eq!(world.begin("3", claim), Err(spent));
    world.begin("3", other).unwrap();
    assert_eq!(world.begin("4", other), Err(RegistryError::Full { what: "pending certificates", max: 3 }));
}

#[test]
fn a_device_rotates_its_own_certificate_and_keeps_the_old_one_until_the_new_one_has_connected() {
    let mut world = World::new();
    let old = world.issue("1", "a").unwrap();
    let new = world.begin("2", old).unwrap();
    assert_eq!(world.register(rotation("2", old, "b")), Err(RegistryError::NotOwnThing(name("b"))));
    let fleet = RegistryError::TemplateNotAllowed(template_name("fleet"));
    assert_eq!(world.register(registration("2", old, "a")), Err(fleet));
    world.register(rotation("2", old, "a")).unwrap();
    assert!(world.is_active(&old) && world.is_active(&new));
    let Standing::Active(active) =
        world.registry.standing_of(world.registry.certificate(&new).unwrap(), world.now)
    else {
        panic!("it should be active")
    };
    assert!(active.replaces_another);

    world.pass(DAY_SECS);
    assert!(
        world.must(Command::RetireSuperseded { at_most: 10 }).is_empty(),
        "the new one has not connected"
    );
    let retire_at = Wall(world.now.0 + 1000 * HOUR_SECS as u64);
    let complete = Command::CompleteRotation { certificate: new, retire_at };
    assert_eq!(world.must(complete.clone()).len(), 1);
    assert!(world.must(complete).is_empty());
    assert_eq!(world.registry.next_deadline(), Some(retire_at));
    assert!(world.must(Command::RetireSuperseded { at_most: 10 }).is_empty());
    world.now = retire_at;
    world.must(Command::RetireSuperseded { at_most: 10 });
    let reason = RevocationReason::Superseded;
    assert_eq!(
        world.registry.certificate(&old).unwrap().status,
        Status::Revoked { since: world.now, reason }
    );
    let [lost] = &world.effects.lost[..] else { panic!("one certificate is lost") };
    assert!(lost.holder_remains && lost.certificate == old);
    assert!(world.is_active(&new) && !world.registry.thing("a").unwrap().barred);
}

#[test]
fn a_device_that_crashed_in_its_rotation_begins_again() {
    let mut world = World::new();
    let old = world.issue("1", "a").unwrap();
    for label in ["2", "3", "4"] {
        world.begin(label, old).unwrap();
        world.register(rotation(label, old, "a")).unwrap();
    }
    let [two, three, four] = ["2", "3", "4"].map(|label| certificate("own", label).facts().id);
    assert!(world.is_active(&old) && world.is_active(&four));
    assert!(!world.is_active(&two) && !world.is_active(&three));
}

#[test]
fn the_old_certificate_stays_when_the_new_one_is_revoked_before_it_retires() {
    let mut world = World::new();
    let old = world.issue("1", "a").unwrap();
    world.must(Command::Renew { certificate: certificate("own", "2"), asker: old });
    let new = certificate("own", "2").facts().id;
    world.must(Command::CompleteRotation { certificate: new, retire_at: world.now });
    world.must(Command::Suspend(Selector::Certificate(new)));
    let [event] = &world.must(Command::RetireSuperseded { at_most: 10 })[..] else { panic!("one event") };
    assert_eq!(event.change, Change::RotationAbandoned { old, new });
    assert!(world.is_active(&old));
    assert_eq!(world.registry.next_deadline(), None);
}

#[test]
fn only_who_stands_renews_and_a_claim_does_not() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let device_id = world.issue("1", "a").unwrap();
    let renew = |asker| Command::Renew { certificate: certificate("own", "2"), asker };
    assert_eq!(world.refused(renew(claim)), RegistryError::AskerNotAllowed(claim));
    let nobody = CertificateId::of(b"nobody");
    assert_eq!(world.refused(renew(nobody)), RegistryError::AskerNotAllowed(nobody));
    world.must(Command::Suspend(Selector::Certificate(device_id)));
    assert_eq!(world.refused(renew(device_id)), RegistryError::AskerNotAllowed(device_id));
    world.must(Command::Activate(Selector::Certificate(device_id)));
    assert_eq!(world.registry.may_issue(IssueFor::Renewal(&device_id), &key("2"), world.now), Ok(()));
    world.must(renew(device_id));
    world.pass(31 * DAY_SECS);
    let late = testing::certificate(key("own"), "3", key("3"), world.now.unix_secs(), DAY_SECS);
    let expired = Command::Renew { certificate: late, asker: device_id };
    assert_eq!(world.refused(expired), RegistryError::AskerNotAllowed(device_id));
}

#[test]
fn an_expired_certificate_asks_for_its_successor_within_the_grace_only() {
    let mut world = World::new();
    let grace = std::time::Duration::from_secs(7 * 86_400);
    world.registry.set_limits(Limits { expired_grace: grace, ..Limits::default() });
    let old = world.issue("1", "a").unwrap();
    let late = |world: &World, label: &str| {
        testing::certificate(key("own"), label, key(label), world.now.unix_secs(), DAY_SECS)
    };
    world.pass(38 * DAY_SECS);
    let refused = Command::Renew { certificate: late(&world, "2"), asker: old };
    assert_eq!(world.refused(refused), RegistryError::AskerNotAllowed(old));
    world.now = Wall::from_unix_secs(START.unix_secs() + 37 * DAY_SECS);
    world.begin("2", old).unwrap();
    world.register(rotation("2", old, "a")).unwrap();
    assert!(world.effects.lost.is_empty(), "the one that asks gets its answer");
    assert_eq!(world.registry.thing("a").unwrap().certificates().len(), 2);
}

pub(super) fn token_spec(text: &str, holder: &str) -> TokenSpec {
    let until = Wall(START.0 + 1000 * HOUR_SECS as u64);
    TokenSpec { hash: token(text), thing: thing(holder), until, note: Line::default() }
}

fn by_token(token: &TokenHash) -> IssueFor<'_> {
    IssueFor::Token { token, never_connected: &[] }
}

pub(super) fn use_token(text: &str, label: &str) -> Command {
    let certificate = certificate("own", label);
    Command::UseToken { token: token(text), certificate, never_connected: Vec::new() }
}

#[test]
fn a_one_time_token_gives_one_certificate() {
    let mut world = World::new();
    world.must(Command::CreateToken(token_spec("t", "a")));
    assert_eq!(world.refused(Command::CreateToken(token_spec("t", "b"))), RegistryError::TokenExists);
    assert_eq!(world.registry.may_issue(by_token(&token("t")), &key("1"), world.now), Ok(()));
    assert_eq!(world.refused(use_token("unknown", "1")), RegistryError::OneTimeToken);
    world.must(use_token("t", "1"));
    let id = certificate("own", "1").facts().id;
    assert!(world.is_active(&id));
    assert_eq!(world.registry.certificate(&id).unwrap().holder, Some(device("a")));
    assert_eq!(world.refused(use_token("t", "2")), RegistryError::OneTimeToken);
    let may = world.registry.may_issue(by_token(&token("t")), &key("2"), world.now);
    assert_eq!(may, Err(RegistryError::OneTimeToken));
    assert_eq!(world.registry.token(&token("t")).unwrap().used, Some((world.now, id)));
}

#[test]
fn a_one_time_token_ends_when_it_expires_or_is_withdrawn() {
    let mut world = World::new();
    for (text, holder) in [("1", "a"), ("2", "b")] {
        world.must(Command::CreateToken(token_spec(text, holder)));
    }
    world.must(Command::DeleteToken(token("1")));
    assert_eq!(world.refused(use_token("1", "1")), RegistryError::OneTimeToken);
    world.pass(HOUR_SECS);
    assert_eq!(world.refused(use_token("2", "2")), RegistryError::OneTimeToken);
    let expire = Command::ExpireTokens { before: Wall(u64::MAX), at_most: 10 };
    assert!(world.must(expire.clone()).is_empty());
    world.pass(1);
    assert_eq!(world.must(expire).len(), 1);
    assert_eq!(world.registry.tokens().count(), 0);
    assert_eq!(world.refused(Command::DeleteToken(token("2"))), RegistryError::OneTimeToken);
    assert!(matches!(
        world.refused(Command::CreateToken(token_spec("3", "c"))),
        RegistryError::DeadlinePassed(_)
    ));
}

#[test]
fn a_token_from_before_a_revocation_does_not_undo_it() {
    let mut world = World::new();
    world.issue("1", "a").unwrap();
    world.must(Command::CreateToken(token_spec("before", "a")));
    world.pass(1);
    let selector = Selector::thing(name("a"));
    world.must(Command::Revoke { selector, reason: RevocationReason::KeyCompromise });
    world.pass(1);
    assert_eq!(world.refused(use_token("before", "2")), RegistryError::Barred(name("a")));
    world.must(Command::CreateToken(token_spec("after", "a")));
    world.must(use_token("after", "2"));
    assert!(world.registry.stands(&device("a"), world.now));
}
