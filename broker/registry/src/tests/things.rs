//! Things.

use std::collections::BTreeMap;

use signet_identity::{GROUPS_MAX, GroupName};

use super::*;

#[test]
fn a_thing_is_added_once() {
    let mut world = World::empty();
    world.must(Command::AddThing(thing("a")));
    assert_eq!(world.registry.thing("a").unwrap().version, 1);
    assert_eq!(world.refused(Command::AddThing(thing("a"))), RegistryError::ThingExists(name("a")));
}

#[test]
fn a_change_counts_versions_and_the_same_again_is_none() {
    let mut world = World::empty();
    world.must(Command::AddThing(thing("a")));
    let groups = Groups::new(vec![GroupName::try_from("g").unwrap()]).unwrap();
    let changed = ThingSpec { groups, ..thing("a") };
    let update = |version| Command::UpdateThing { thing: changed.clone(), version };
    assert_eq!(world.must(update(Some(1))).len(), 1);
    assert_eq!(world.registry.thing("a").unwrap().version, 2);
    let conflict = RegistryError::VersionConflict { thing: name("a"), expected: 1, found: 2 };
    assert_eq!(world.refused(update(Some(1))), conflict);
    assert!(world.must(update(None)).is_empty());
    let other = Command::UpdateThing { thing: thing("b"), version: None };
    assert_eq!(world.refused(other), RegistryError::NoThing(name("b")));
}

#[test]
fn a_thing_that_is_deleted_takes_its_certificates_out_of_service() {
    let mut world = World::new();
    let id = world.issue("1", "a").unwrap();
    world.must(Command::DeleteThing(name("a")));
    assert!(world.registry.thing("a").is_none());
    let status = &world.registry.certificate(&id).unwrap().status;
    let reason = RevocationReason::CessationOfOperation;
    assert_eq!(*status, Status::Revoked { since: world.now, reason });
    assert_eq!(world.refused(Command::DeleteThing(name("a"))), RegistryError::NoThing(name("a")));
    // A new thing of that name has nothing of the old one, and its key does not come back.
    world.must(Command::AddThing(thing("a")));
    assert!(world.registry.thing("a").unwrap().certificates().is_empty());
    let again = certificate_with_key("own", "2", "1");
    let refused = world.refused(Command::Issue { certificate: again, holder: device("a") });
    assert_eq!(refused, RegistryError::KeyRevoked { other: id });
    assert!(world.issue("3", "a").is_ok());
}

#[test]
fn an_approval_is_for_a_thing_that_exists_and_for_the_future() {
    let mut world = World::empty();
    let approve = |until| Command::ApproveThing { thing: name("a"), until };
    assert_eq!(world.refused(approve(None)), RegistryError::NoThing(name("a")));
    world.must(Command::AddThing(thing("a")));
    assert_eq!(world.refused(approve(Some(START))), RegistryError::DeadlinePassed(START));
    let until = Wall(START.0 + 1);
    world.must(approve(Some(until)));
    assert!(world.registry.thing("a").unwrap().approved(until));
    assert!(!world.registry.thing("a").unwrap().approved(Wall(until.0 + 1)));
    world.must(approve(None));
    assert!(!world.registry.thing("a").unwrap().approved(until));
}

#[test]
fn attributes_and_groups_are_within_their_bounds() {
    let pairs = |name: &str, value: &str| BTreeMap::from([(name.into(), value.into())]);
    assert!(Attributes::new(pairs("serial", "a=[1]@b")).is_ok());
    assert!(Attributes::new(pairs("serial", "")).is_ok());
    for (name, value) in [("", "a"), ("a b", "a"), ("a=", "b"), ("a", "b c"), ("a", "\n"), ("a", "é")] {
        assert_eq!(Attributes::new(pairs(name, value)), Err(RegistryError::Attribute { name: name.into() }));
    }
    assert!(Attributes::new(pairs("a", &"x".repeat(ATTRIBUTE_VALUE_BYTES_MAX))).is_ok());
    assert!(Attributes::new(pairs("a", &"x".repeat(ATTRIBUTE_VALUE_BYTES_MAX + 1))).is_err());
    let many = |count: usize| (0..count).map(|i| (format!("a{i}").into(), "".into())).collect();
    assert!(Attributes::new(many(ATTRIBUTES_MAX)).is_ok());
    assert!(Attributes::new(many(ATTRIBUTES_MAX + 1)).is_err());
    let groups = |count: usize| (0..count).map(|i| GroupName::try_from(&*format!("g{i}")).unwrap()).collect();
    assert!(Groups::new(groups(GROUPS_MAX)).is_ok());
    assert!(Groups::new(groups(GROUPS_MAX + 1)).is_err());
}

#[test]
fn things_are_listed_in_order_from_any_place() {
    let mut world = World::empty();
    for each in ["c", "a", "b"] {
        world.must(Command::AddThing(thing(each)));
    }
    let listed = |after: Option<&str>| {
        let after = after.map(name);
        world.registry.things(after.as_ref()).map(|thing| thing.spec.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(None), ["a", "b", "c"]);
    assert_eq!(listed(Some("a")), ["b", "c"]);
    assert!(listed(Some("c")).is_empty());
}

#[test]
fn the_table_of_things_is_bounded() {
    let mut world = World::empty();
    world.registry.set_limits(Limits { things_max: 1, ..Limits::default() });
    world.must(Command::AddThing(thing("a")));
    assert_eq!(world.refused(Command::AddThing(thing("b"))), RegistryError::Full { what: "things", max: 1 });
}

#[test]
fn a_thing_in_quarantine_stays_in_force_and_is_judged_again() {
    let mut world = World::new();
    world.issue("1", "a").unwrap();
    let quarantine = |why: &str| Command::Quarantine { thing: name("a"), why: Line::new(why) };
    let quarantined = |world: &World| match world.standing("own", "1") {
        Standing::Active(active) => active.quarantined,
        other => panic!("{other:?}"),
    };
    assert!(!quarantined(&world));
    let before = world.registry.clone();
    let events = world.must(quarantine("in two hands"));
    assert_eq!(events.len(), 1);
    assert!(quarantined(&world));
    let effects = world.registry.effects(&before, &events, world.now);
    assert!(effects.lost.is_empty());
    assert_eq!(effects.rejudge.into_iter().collect::<Vec<_>>(), [device("a")]);
    // The first reason stays, and a thing that is not there cannot be in quarantine.
    assert!(world.must(quarantine("again")).is_empty());
    assert_eq!(&*world.registry.thing("a").unwrap().quarantine.as_ref().unwrap().why, "in two hands");
    assert_eq!(world.refused(Command::Release(name("b"))), RegistryError::NoThing(name("b")));
    // A new certificate does not bring the thing out, an operator does.
    world.issue("2", "a").unwrap();
    assert!(quarantined(&world));
    assert_eq!(world.must(Command::Release(name("a"))).len(), 1);
    assert!(!quarantined(&world));
    assert!(world.must(Command::Release(name("a"))).is_empty());
}
