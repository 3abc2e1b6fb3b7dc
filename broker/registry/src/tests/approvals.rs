//! Requests that an operator has to approve.

use super::*;

/// So long a request stands before another of its device takes its place.
const STANDS_SECS: i64 = 15 * 60;

fn request(device: &str, csr: u32) -> ApprovalRequest {
    ApprovalRequest {
        id: RequestId::of(&name(device), Some("daily"), &csr.to_be_bytes()),
        device: name(device),
        key: key(&format!("{device} {csr}")),
        label: Some("daily".into()),
        address: "192.0.2.1".into(),
    }
}

fn ask(device: &str, csr: u32) -> Command {
    Command::AskApproval(request(device, csr))
}

fn decide(device: &str, csr: u32, approved: bool) -> Command {
    Command::DecideApproval { request: request(device, csr).id, approved }
}

impl World {
    fn approval(&self, device: &str, csr: u32) -> Option<Option<bool>> {
        self.registry.approval(&request(device, csr).id, self.now).map(|known| known.approved)
    }
}

#[test]
fn it_waits_until_it_is_decided_and_another_request_of_the_device_does_not_profit() {
    let mut world = World::new();
    world.must(ask("a", 1));
    world.pass(60);
    assert!(world.must(ask("a", 1)).is_empty(), "it is noted seldom");
    assert_eq!(world.approval("a", 1), Some(None));
    assert_eq!(world.refused(decide("a", 2, true)), RegistryError::NoApproval(request("a", 2).id));
    world.must(decide("a", 1, true));
    assert!(world.must(decide("a", 1, true)).is_empty());
    world.must(ask("a", 2));
    assert_eq!((world.approval("a", 1), world.approval("a", 2)), (Some(Some(true)), Some(None)));
    // A restart loses neither.
    let again = Registry::replay(Limits::default(), &world.events);
    assert_eq!(again.approval(&request("a", 1).id, world.now).unwrap().approved, Some(true));
    assert_eq!(again, world.registry);
    world.must(Command::EndApproval(request("a", 1).id));
    assert_eq!(world.approval("a", 1), None, "once");
    assert!(world.must(Command::EndApproval(request("a", 1).id)).is_empty());
}

#[test]
fn an_operator_may_have_second_thoughts() {
    let mut world = World::new();
    world.must(ask("a", 1));
    for approved in [false, true, false] {
        world.must(decide("a", 1, approved));
        assert_eq!(world.approval("a", 1), Some(Some(approved)));
    }
}

#[test]
fn what_nobody_asks_for_is_forgotten_and_an_old_word_does_not_come_back_with_it() {
    let mut world = World::new();
    let hours = 3600;
    world.must(ask("a", 1));
    world.pass(13 * hours);
    assert_eq!(world.must(ask("a", 1)).len(), 1, "who still asks is noted again");
    world.pass(23 * hours);
    assert_eq!(world.approval("a", 1), Some(None));
    world.must(decide("a", 1, true));
    world.pass(7 * 24 * hours - 1);
    assert_eq!(world.approval("a", 1), Some(Some(true)));
    world.pass(1);
    assert_eq!(world.approval("a", 1), None);
    assert_eq!(world.refused(decide("a", 1, true)), RegistryError::NoApproval(request("a", 1).id));
    world.must(ask("a", 1));
    assert_eq!(world.approval("a", 1), Some(None), "it was approved too long ago");
    assert_eq!(world.registry.approvals(world.now)[0].first, world.now);
}

#[test]
fn one_device_cannot_fill_the_table_and_the_table_cannot_grow() {
    let mut world = World::new();
    world.registry.set_limits(Limits { approvals_max: 8, ..Limits::default() });
    world.must(ask("a", 0));
    world.must(decide("a", 0, true));
    for csr in 1..=20 {
        world.pass(STANDS_SECS);
        world.must(ask("a", csr));
    }
    let kept: Vec<_> = (0..=20).filter(|csr| world.approval("a", *csr).is_some()).collect();
    assert_eq!(kept, [0, 18, 19, 20], "what an operator decided stays longest");
    for csr in [18, 19, 20] {
        world.must(decide("a", csr, false));
    }
    world.pass(STANDS_SECS);
    world.must(ask("a", 21));
    assert_eq!((world.approval("a", 0), world.approval("a", 21)), (None, Some(None)));
    for other in ["b", "c", "d", "e"] {
        world.must(ask(other, 1));
    }
    let full = RegistryError::Full { what: "enrolments that wait for approval", max: 8 };
    assert_eq!(world.refused(ask("late", 1)), full);
    assert_eq!(full.fault(), Fault::Exhausted);
    world.must(ask("e", 1));
    world.pass(8 * DAY_SECS);
    world.must(ask("late", 1));
    assert_eq!(world.registry.approvals.len(), 1, "what is forgotten makes room");
}

#[test]
fn names_labels_and_requests_are_kept_apart() {
    let id = |device: &str, label, csr: &[u8]| RequestId::of(&name(device), label, csr);
    assert_ne!(id("a", None, b"bc"), id("ab", None, b"c"));
    assert_ne!(id("a", Some("b"), b"c"), id("ab", Some(""), b"c"));
    let labels = [None, Some(""), Some("c"), Some("daily"), Some("decade")];
    let ids: std::collections::BTreeSet<_> = labels.map(|label| id("a", label, b"c")).into();
    assert_eq!(ids.len(), labels.len(), "what was approved at one label is not approved at another");
}

#[test]
fn a_device_that_asks_without_end_leaves_few_rows_and_what_it_asked_first_stands() {
    let mut world = World::new();
    for csr in 0..4 {
        world.pass(1);
        world.must(ask("a", csr));
    }
    let full = RegistryError::Full { what: "enrolments of one device that wait for approval", max: 4 };
    let rows = world.events.len();
    for csr in 4..100 {
        world.pass(1);
        assert_eq!(world.refused(ask("a", csr)), full);
    }
    assert_eq!(world.events.len(), rows);
    assert!((0..4).all(|csr| world.approval("a", csr) == Some(None)));
    world.must(ask("b", 1));
    world.pass(STANDS_SECS);
    world.must(ask("a", 100));
    assert_eq!((world.approval("a", 0), world.approval("a", 100)), (None, Some(None)));
}

#[test]
fn devices_of_one_origin_leave_those_of_another_their_share_of_the_places() {
    let mut world = World::new();
    world.registry.set_limits(Limits { approvals_max: 8, ..Limits::default() });
    let claim = world.add_claim("line-1", |_| {});
    for n in 0..9 {
        world.enrol(&format!("c{n}"), claim, &format!("stolen{n}")).unwrap();
    }
    for n in 0..8 {
        world.pass(1);
        world.must(ask(&format!("stolen{n}"), 1));
    }
    world.must(decide("stolen7", 1, true));
    let full = RegistryError::Full { what: "enrolments that wait for approval", max: 8 };
    assert_eq!(world.refused(ask("stolen8", 1)), full, "nobody makes room for its own origin");
    for n in 0..3 {
        world.pass(1);
        world.must(ask(&format!("new{n}"), 1));
    }
    let waiting = |world: &World, of: &str| {
        (0..9).filter(|n| world.approval(&format!("{of}{n}"), 1).is_some()).collect::<Vec<_>>()
    };
    // The newest went, and none that an operator has decided on.
    assert_eq!((waiting(&world, "stolen"), waiting(&world, "new")), (vec![0, 1, 2, 3, 7], vec![0, 1, 2]));
    assert_eq!(world.refused(ask("new3", 1)), full, "four and three: they do not take turns");
    assert_eq!(world.refused(ask("stolen6", 1)), full);
    // A third one gets in too, at the cost of the greatest.
    world.issue("1", "own").unwrap();
    world.must(ask("own", 1));
    assert_eq!((waiting(&world, "stolen"), waiting(&world, "new")), (vec![0, 1, 2, 7], vec![0, 1, 2]));
}
