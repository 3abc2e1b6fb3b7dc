//! Who gets in, and who makes room.

use super::*;

const LIMITS: AdmissionLimits = AdmissionLimits {
    half_open_max: 1_000_000,
    connections_per_address_max: None,
    connects_per_address_per_second: 0,
    refused_addresses_slowed: true,
};

const ONE: Authority = Authority([1; 8]);

fn address(n: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n))
}

const HERE: Entrance = Entrance(0);

impl Admission {
    /// Admits one who finds a place.
    fn admit_here(self: &Arc<Self>, address: IpAddr, now: Mono) -> Result<(Ticket, AddressSlot), Turned> {
        self.enter((address, HERE), now, false, |_| Some(())).map(|(ticket, slot, ())| (ticket, slot))
    }
}

fn at(secs: u64) -> Mono {
    Mono::new(Duration::from_secs(secs))
}

/// How many of `tries` bad peers of one address may begin; each of them is refused then.
fn bad(admission: &Arc<Admission>, tries: usize, now: Mono) -> usize {
    let begins = |_: &usize| admission.admit_here(address(1), now).map(|(_, slot)| slot.refused(now)).is_ok();
    (0..tries).filter(begins).count()
}

#[test]
fn an_address_of_refused_peers_alone_gets_a_small_share_in() {
    let admission = Admission::new(LIMITS);
    assert_eq!(bad(&admission, 30, at(1)), 30, "a few refusals change nothing");
    bad(&admission, 1_000, at(1));
    let begun = bad(&admission, 16_000, at(1));
    assert!((600..1_500).contains(&begun), "{begun} of 16000");
    assert!(admission.admit_here(address(2), at(1)).is_ok(), "another address is another matter");
    assert_eq!(bad(&admission, 20, at(1000)), 20, "it is forgotten");
}

#[test]
fn good_peers_behind_the_same_address_keep_the_door_open() {
    let admission = Admission::new(LIMITS);
    let (_ticket, mut good) = admission.admit_here(address(1), at(1)).unwrap();
    good.good(ONE);
    assert_eq!(bad(&admission, 1_000, at(1)), 1_000);
    drop(good);
    assert_eq!(bad(&admission, 1_000, at(2)), 1_000, "for a while after the last good one has gone");
    assert!(bad(&admission, 1_000, at(700)) < 700);
}

#[test]
fn somebody_good_gets_in_after_a_few_tries_and_opens_the_door() {
    let admission = Admission::new(LIMITS);
    bad(&admission, 5_000, at(1));
    let tries = (0..1_000).find_map(|n| admission.admit_here(address(1), at(1)).ok().map(|came| (n, came)));
    let (tries, (_ticket, mut slot)) = tries.expect("one in sixteen may begin");
    assert!(tries < 500, "{tries}");
    assert_eq!(slot.known(at(1)), None);
    slot.good(ONE);
    assert_eq!(slot.known(at(1)), Some(ONE));
    assert!((0..100).all(|_| admission.admit_here(address(1), at(1)).is_ok()));
}

#[test]
fn an_address_counts_to_the_authority_of_whom_was_there_first() {
    let admission = Admission::new(LIMITS);
    let two = Authority([2; 8]);
    let come = |secs| admission.admit_here(address(1), at(secs)).unwrap().1;
    let known = |secs| come(secs).known(at(secs));
    let (mut first, mut other) = (come(1), come(1));
    first.good(ONE);
    other.good(two);
    drop(first);
    assert_eq!(known(1), Some(ONE));
    drop(other);
    assert_eq!(known(2), Some(ONE), "for a while after");
    assert_eq!(known(700), None);
    come(700).good(two);
    assert_eq!(known(701), Some(two));
}

#[test]
fn one_bad_peer_that_comes_now_and_then_never_slows_its_address() {
    let admission = Admission::new(LIMITS);
    assert!((0..600).all(|minute| bad(&admission, 1, at(60 * minute)) == 1));
}

#[test]
fn the_door_stays_open_for_a_while_after_a_long_connection_has_ended() {
    let admission = Admission::new(LIMITS);
    let (_ticket, mut good) = admission.admit_here(address(1), at(1)).unwrap();
    good.good(ONE);
    assert_eq!(bad(&admission, 1_000, at(5_000)), 1_000);
    drop(good);
    assert_eq!(bad(&admission, 1_000, at(5_001)), 1_000);
    assert_eq!(bad(&admission, 1_000, at(5_600)), 1_000, "the bad ones do not shorten it");
    assert!(bad(&admission, 1_000, at(5_602)) < 700, "nor is it longer");
}

#[test]
fn nothing_is_slowed_when_that_is_switched_off() {
    let admission = Admission::new(AdmissionLimits { refused_addresses_slowed: false, ..LIMITS });
    assert_eq!(bad(&admission, 1_000, at(1)), 1_000);
}

#[test]
fn the_oldest_half_open_make_room_and_those_that_have_gone_on_are_not_asked() {
    let admission = Admission::new(LIMITS);
    let mut peers: Vec<_> = (0..4).map(|n| admission.admit_here(address(n), at(1)).unwrap().0).collect();
    drop(peers.remove(0));
    assert_eq!(admission.make_room(2), 2);
    assert_eq!(peers.iter().map(must_go).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(admission.half_open(), 1);
    assert_eq!(admission.make_room(100), 1);
    assert_eq!(admission.make_room(100), 0);
}

fn must_go(ticket: &Ticket) -> bool {
    let waiting = std::pin::pin!(ticket.evicted());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    waiting.poll(&mut cx).is_ready()
}

/// A table with 400 places of which `addresses` (one of each) take some, and how many of those lose theirs when so many
/// more come that stay silent, or begin with TLS.
fn lost_to(mine: &dyn Fn(&Arc<Admission>) -> Vec<Ticket>, strangers: u32, began: bool) -> usize {
    let admission = Admission::new(AdmissionLimits { half_open_max: 400, ..LIMITS });
    let mine = mine(&admission);
    let others: Vec<_> = (0..strangers)
        .map(|n| {
            let (ticket, _) = admission.admit_here(address(1_000 + n), at(2)).unwrap();
            if began {
                ticket.began();
            }
            ticket
        })
        .collect();
    assert_eq!(admission.half_open(), 400);
    drop(others);
    mine.iter().filter(|ticket| must_go(ticket)).count()
}

#[test]
fn who_says_nothing_makes_room_before_who_has_begun() {
    let began = |admission: &Arc<Admission>| {
        let ticket = |n| admission.admit_here(address(n), at(1)).unwrap().0;
        (0..200).map(ticket).inspect(Ticket::began).collect()
    };
    assert_eq!(lost_to(&began, 10_000, false), 0);
    assert!(lost_to(&began, 10_000, true) > 0, "among those who have begun it is the oldest");
}

#[test]
fn who_is_known_makes_room_last_and_strangers_who_have_just_come_have_some_time() {
    let known = |admission: &Arc<Admission>| {
        let ticket = |n| {
            let (ticket, mut slot) = admission.admit_here(address(n), at(1)).unwrap();
            slot.good(ONE);
            // The next one from there has said nothing.
            drop((ticket, slot));
            admission.admit_here(address(n), at(1)).unwrap().0
        };
        (0..100).map(ticket).collect()
    };
    let shown = |admission: &Arc<Admission>| {
        let ticket = |n| admission.admit_here(address(n), at(1)).unwrap().0;
        (0..100).map(ticket).inspect(Ticket::is_good).collect()
    };
    for began in [false, true] {
        assert_eq!(lost_to(&known, 10_000, began), 0);
        assert_eq!(lost_to(&shown, 10_000, began), 0);
    }
}

#[test]
fn who_has_just_come_keeps_its_place_until_a_quarter_is_taken_by_those_who_say_nothing() {
    let admission = Admission::new(AdmissionLimits { half_open_max: 400, ..LIMITS });
    let ticket = |n| admission.admit_here(address(n), at(1)).unwrap().0;
    let _began: Vec<_> = (0..390).map(ticket).inspect(Ticket::began).collect();
    let new = ticket(500);
    let _more: Vec<_> = (600..690).map(ticket).collect();
    assert!(!must_go(&new));
    let _too_many: Vec<_> = (700..720).map(ticket).collect();
    assert!(must_go(&new));
}

#[test]
fn nobody_makes_room_for_a_peer_that_is_turned_away_for_its_address() {
    let admission = Admission::new(AdmissionLimits { connects_per_address_per_second: 1, ..LIMITS });
    let good: Vec<_> = (2..102).map(|n| admission.admit_here(address(n), at(1)).unwrap()).collect();
    assert_eq!(admission.half_open(), good.len());
    // Memory runs short, and max-connections is reached: each that comes needs the place of another.
    let place = |ticket: &Ticket| ticket.displaces_another().then_some(());
    let came: Vec<_> = (0..5_000).map(|_| admission.enter((address(1), HERE), at(1), true, place)).collect();
    let begun = came.iter().filter(|came| came.is_ok()).count();
    assert_eq!(begun, 2, "a burst");
    assert!(came.iter().skip(2).all(|came| came.as_ref().err() == Some(&Turned::Away(Refused::AddressRate))));
    assert_eq!(admission.half_open(), good.len() + begun - 2 * begun, "two places for each that came in");
}

#[test]
fn nobody_makes_room_for_a_peer_for_which_there_is_no_place_then() {
    let admission = Admission::new(AdmissionLimits { half_open_max: 1, ..LIMITS });
    let (there, _slot) = admission.admit_here(address(1), at(1)).unwrap();
    for crowded in [false, true] {
        let came = admission.enter((address(2), HERE), at(1), crowded, |_| None::<()>);
        assert_eq!(came.err(), Some(Turned::NoPlace));
        assert!(!must_go(&there), "{crowded}");
    }
    let (_newer, _slot) = admission.admit_here(address(2), at(1)).unwrap();
    assert!(must_go(&there), "the table has one place");
}

#[test]
fn who_came_elsewhere_frees_no_place_and_is_not_asked_for_one() {
    let admission = Admission::new(LIMITS);
    let (elsewhere, _slot) = admission.admit_here(address(1), at(1)).unwrap();
    let there = Entrance(1);
    let place = |ticket: &Ticket| ticket.displaces_another().then_some(());
    let come = || admission.enter((address(2), there), at(1), false, place);
    assert_eq!(come().err(), Some(Turned::NoPlace));
    let (first, _slot, ()) = admission.enter((address(2), there), at(1), false, |_| Some(())).unwrap();
    let (_second, _slot, ()) = come().unwrap();
    assert!(must_go(&first), "it has the place that is wanted");
    assert!(!must_go(&elsewhere));
    let (_third, _slot, ()) = admission.enter((address(2), there), at(1), true, |_| Some(())).unwrap();
    assert!(must_go(&elsewhere), "for memory it is the oldest of all");
}

#[test]
fn no_peer_makes_room_for_itself() {
    let admission = Admission::new(LIMITS);
    let place = |ticket: &Ticket| ticket.displaces_another().then_some(());
    assert_eq!(admission.enter((address(1), HERE), at(1), false, place).err(), Some(Turned::NoPlace));
    assert_eq!(admission.half_open(), 0, "it has gone");
    let (ticket, _slot, ()) = admission.enter((address(1), HERE), at(1), true, |_| Some(())).unwrap();
    assert_eq!(admission.half_open(), 1);
    let (newer, _slot, ()) = admission.enter((address(2), HERE), at(1), false, place).unwrap();
    assert_eq!(admission.half_open(), 1);
    drop(ticket);
    assert_eq!(admission.half_open(), 1, "the newer one is there");
    drop(newer);
}

#[test]
fn a_full_table_is_searched_once_in_a_while_and_not_for_every_peer() {
    let admission = Admission::new(LIMITS);
    let count = u32::try_from(ADDRESSES_TRACKED_MAX).unwrap();
    let slots: Vec<_> = (0..count).map(|n| admission.admit_here(address(n), at(1)).unwrap()).collect();
    for n in 0..1_000 {
        assert!(admission.admit_here(address(count + n), at(1)).is_ok());
    }
    assert_eq!(admission.table.lock().sweeps, 1);
    drop(slots);
    assert!(admission.admit_here(address(count), at(3)).is_ok());
    assert_eq!(admission.table.lock().sweeps, 2);
    assert_eq!(admission.table.lock().sources.len(), 1);
}

#[test]
fn strangers_from_many_addresses_do_not_make_the_good_forgotten() {
    let come = |admission: &Arc<Admission>, n, now| admission.admit_here(address(n), at(now)).map(drop);
    let count = u32::try_from(ADDRESSES_TRACKED_MAX).unwrap();
    // A few of the good, and more than are kept.
    for (good, kept) in [(100, true), (u32::try_from(KNOWN_KEPT_MAX).unwrap() + 1, false)] {
        let admission = Admission::new(LIMITS);
        for n in 0..good {
            let (_ticket, mut slot) = admission.admit_here(address(n), at(1)).unwrap();
            slot.good(ONE);
        }
        for n in good..=count {
            assert!(come(&admission, n, 2).is_ok());
        }
        let (_ticket, slot) = admission.admit_here(address(0), at(3)).unwrap();
        assert_eq!(slot.known(at(3)).is_some(), kept, "{good}");
    }
}
