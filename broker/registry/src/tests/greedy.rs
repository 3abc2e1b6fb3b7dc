//! Members of the fleet that ask for more than is theirs, and what keeps the others safe from it.

use super::enrol::{registration, rotation};
use super::*;

impl World {
    /// Renews `asker` in one step by the certificate `label`.
    fn renew(&mut self, label: &str, asker: CertificateId) -> Result<CertificateId, RegistryError> {
        let now = self.now.unix_secs();
        let certificate = testing::certificate(key("own"), label, key(label), now, 30 * DAY_SECS);
        let id = certificate.facts().id;
        self.run(Command::Renew { certificate, asker }).map(|_| id)
    }

    /// The certificate `new`, which takes the place of another, has connected; the other has a day left.
    fn connects(&mut self, new: CertificateId) {
        let retire_at = Wall(self.now.0 + 86_400_000);
        let events = self.must(Command::CompleteRotation { certificate: new, retire_at });
        assert_eq!(events.len(), 1);
    }

    fn may_renew(&self, asker: CertificateId) -> Result<(), RegistryError> {
        self.registry.may_issue(IssueFor::Renewal(&asker), &key("next"), self.now)
    }

    fn may_enrol(&self, asker: CertificateId) -> Result<(), RegistryError> {
        self.registry.may_issue(IssueFor::Enrolment(&asker), &key("next"), self.now)
    }
}

#[test]
fn who_holds_a_replaced_certificate_does_not_evict_its_successor() {
    let mut world = World::new();
    let old = world.issue("1", "a").unwrap();
    world.begin("waiting", old).unwrap();
    let new = world.renew("2", old).unwrap();
    world.connects(new);
    let replaced = RegistryError::Replaced { certificate: old, by: new };
    assert_eq!(world.may_renew(old), Err(replaced.clone()));
    assert_eq!(world.may_enrol(old), Err(replaced.clone()));
    assert_eq!(world.renew("3", old), Err(replaced.clone()));
    assert_eq!(world.begin("4", old), Err(replaced.clone()));
    assert_eq!(world.register(rotation("waiting", old, "a")), Err(replaced));
    assert!(world.is_active(&new) && world.is_active(&old));

    world.must(Command::Suspend(Selector::Certificate(new)));
    assert_eq!(world.may_renew(old), Ok(()), "what took its place is not in force");
    world.must(Command::Activate(Selector::Certificate(new)));
    let newest = world.renew("5", new).unwrap();
    assert!(world.is_active(&new) && world.is_active(&newest) && !world.is_active(&old));
}

#[test]
fn a_device_that_renews_ever_again_stays_in_and_forgets_what_was_replaced() {
    let mut world = World::new();
    world.registry.set_limits(Limits { certificates_per_holder_max: 4, ..Limits::default() });
    let first = world.issue("0", "a").unwrap();
    let mut last = first;
    for label in 1..20 {
        last = world.renew(&format!("{label}"), first).unwrap();
    }
    assert!(world.is_active(&first) && world.is_active(&last));
    assert_eq!(world.registry.thing("a").unwrap().certificates().len(), 4);
    // What is forgotten stays revoked, for whoever reads the list.
    let listed = world.registry.revocations(&key("own"), world.now).count();
    assert_eq!(listed, 18);
    assert!(matches!(world.standing("own", "1"), Standing::Revoked { .. }));
    world.must(Command::Revoke {
        selector: Selector::Certificate(last),
        reason: RevocationReason::KeyCompromise,
    });
    world.issue("operator", "a").unwrap();
}

#[test]
fn what_is_no_replaced_certificate_keeps_its_place_and_nothing_is_signed_for_nothing() {
    let mut world = World::new();
    world.registry.set_limits(Limits { certificates_per_holder_max: 3, ..Limits::default() });
    let reason = RevocationReason::KeyCompromise;
    for label in ["1", "2"] {
        let id = world.issue(label, "a").unwrap();
        world.must(Command::Revoke { selector: Selector::Certificate(id), reason });
    }
    let id = world.issue("3", "a").unwrap();
    let full = RegistryError::Full { what: "certificates of one holder", max: 3 };
    assert_eq!(world.may_renew(id), Err(full.clone()));
    assert_eq!(world.may_enrol(id), Err(full.clone()));
    assert_eq!(world.renew("4", id), Err(full));
}

#[test]
fn forgotten_certificates_leave_an_operator_half_of_the_revoked_numbers() {
    let mut world = World::new();
    let limits = Limits { certificates_per_holder_max: 3, revoked_serials_max: 4, ..Limits::default() };
    world.registry.set_limits(limits);
    let first = world.issue("0", "a").unwrap();
    for label in 1..=4 {
        world.renew(&format!("{label}"), first).unwrap();
    }
    let full = RegistryError::Full { what: "certificates of one holder", max: 3 };
    assert_eq!(world.renew("5", first), Err(full));
}

#[test]
fn a_device_has_four_certificates_pending_and_the_newest_stay() {
    let mut world = World::new();
    world.registry.set_limits(Limits { pending_max: 6, ..Limits::default() });
    let device_id = world.issue("0", "a").unwrap();
    let mut ids = Vec::new();
    for label in 1..=40 {
        ids.push(world.begin(&format!("{label}"), device_id).unwrap());
        world.pass(1);
    }
    assert_eq!(world.registry.counts().pending, 4);
    assert!(ids[36..].iter().all(|id| world.status(id) == Some(StatusKind::PendingActivation)));
    let claim = world.add_claim("line-1", |_| {});
    world.enrol("b", claim, "b").unwrap();
    world.register(rotation("38", device_id, "a")).unwrap();
    assert_eq!(world.registry.counts().pending, 3);
    let again = Registry::replay(world.registry.limits().clone(), &world.events);
    assert_eq!(again, world.registry);
}

#[test]
fn a_replayed_request_takes_nothing_from_a_device_that_lives() {
    let mut world = World::new();
    let claim = world.add_claim("line-1", |_| {});
    let live = world.begin_with_key("1", "a's", claim).unwrap();
    world.register(registration("1", claim, "a")).unwrap();
    world.pass(60);
    let mut replayed = Vec::new();
    for label in ["2", "3", "4"] {
        let id = world.begin_with_key(label, "a's", claim).unwrap();
        let never_connected = replayed.clone();
        world.register(RegisterThing { never_connected, ..registration(label, claim, "a") }).unwrap();
        assert!(world.is_active(&live) && world.is_active(&id), "{label}");
        replayed.push(id);
    }
    // It was the device after all: the old one goes as in any rotation.
    world.connects(replayed[2]);
    world.pass(DAY_SECS);
    world.must(Command::RetireSuperseded { at_most: 10 });
    assert!(!world.is_active(&live) && world.is_active(&replayed[2]));
}
