//! What events take away.

use super::*;
use signet_identity::GroupName;

fn lost(world: &World) -> Vec<(CertificateId, bool)> {
    world.effects.lost.iter().map(|lost| (lost.certificate, lost.holder_remains)).collect()
}

#[test]
fn revoking_one_of_two_certificates_leaves_the_thing_its_standing() {
    let mut world = World::new();
    let [first, second] = ["1", "2"].map(|label| world.issue(label, "a").unwrap());
    let revoke =
        |id| Command::Revoke { selector: Selector::Certificate(id), reason: RevocationReason::KeyCompromise };
    world.must(revoke(first));
    assert_eq!(lost(&world), [(first, true)]);
    assert_eq!(world.effects.lost[0].holder, device("a"));
    assert_eq!(world.effects.lost[0].standing.metric_label(), "revoked");
    assert!(world.effects.lists.contains(&key("own")));
    world.must(revoke(second));
    assert_eq!(lost(&world), [(second, false)]);
}

#[test]
fn what_was_suspended_is_reported_once_more_when_it_is_gone_for_good() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    assert!(lost(&world).is_empty(), "issuing takes nothing away");
    world.must(Command::Suspend(Selector::Certificate(id)));
    assert_eq!(lost(&world), [(id, false)]);
    world
        .must(Command::Revoke { selector: Selector::Certificate(id), reason: RevocationReason::Unspecified });
    assert_eq!(lost(&world), [(id, false)], "what was kept for its return is to be dropped");
    assert!(world.effects.lists.contains(&key("own")), "the list changes nevertheless");
}

#[test]
fn an_authority_takes_its_certificates_along_and_no_others() {
    let mut world = World::new();
    let own = world.issue("1", "a").unwrap();
    let outside = certificate("maker", "2");
    let outside_id = outside.facts().id;
    world.must(Command::RegisterCertificate {
        certificate: outside,
        holder: device("sn1"),
        enter: Enter::Active,
    });
    let maker = world.ca("maker").id;
    world.must(Command::Suspend(Selector::Ca(maker)));
    assert_eq!(lost(&world), [(outside_id, false)]);
    assert!(world.effects.trust_changed);
    assert_eq!(world.effects.lost[0].standing, Standing::Inactive(Suspended::Authority));
    world.must(Command::Activate(Selector::Ca(maker)));
    assert!(lost(&world).is_empty() && world.effects.trust_changed);
    world.must(Command::Revoke { selector: Selector::Ca(maker), reason: RevocationReason::CaCompromise });
    assert_eq!(lost(&world), [(outside_id, false)]);
    assert!(world.is_active(&own));
}

#[test]
fn other_groups_are_judged_again_without_losing_anything() {
    let mut world = World::new();
    world.issue("1", "a").unwrap();
    let groups = Groups::new(vec![GroupName::try_from("g").unwrap()]).unwrap();
    let changed = ThingSpec { groups, ..thing("a") };
    world.must(Command::UpdateThing { thing: changed, version: None });
    assert!(lost(&world).is_empty());
    assert!(world.effects.rejudge.contains(&device("a")));
}

#[test]
fn a_suspended_claim_loses_its_connections() {
    let mut world = World::new();
    let id = world.add_claim("line-1", |_| {});
    world.must(Command::SuspendClaim { claim: name("line-1"), suspended: true });
    assert_eq!(lost(&world), [(id, false)]);
    assert_eq!(world.effects.lost[0].standing, Standing::Inactive(Suspended::Claim));
    world.must(Command::SuspendClaim { claim: name("line-1"), suspended: false });
    assert!(lost(&world).is_empty());
}

#[test]
fn a_purged_certificate_is_lost_and_forgotten() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    world.pass(40 * DAY_SECS);
    let before = world.now;
    world.must(Command::PurgeExpired { before, at_most: 1 });
    assert_eq!(lost(&world), [(id, false)]);
    assert_eq!(world.effects.lost[0].standing, Standing::Unknown);
    assert_eq!(world.effects.deleted, [id]);
}

#[test]
fn a_revocation_list_names_what_is_revoked_and_not_yet_expired() {
    let mut world = World::new();
    let [a, b] = ["1", "2"].map(|label| world.issue(label, label).unwrap());
    let at = world.now;
    world.must(Command::Revoke {
        selector: Selector::Certificate(a),
        reason: RevocationReason::KeyCompromise,
    });
    let serial = world.registry.certificate(&a).unwrap().facts.serial;
    let listed = |world: &World| world.registry.revocations(&key("own"), world.now).collect::<Vec<_>>();
    assert_eq!(listed(&world), [(serial, at, RevocationReason::KeyCompromise)]);
    assert!(world.registry.revocations(&key("maker"), at).next().is_none());
    assert!(world.is_active(&b));
    world.pass(31 * DAY_SECS);
    assert!(listed(&world).is_empty());
}
