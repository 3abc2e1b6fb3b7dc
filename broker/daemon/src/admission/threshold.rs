//! Whether further peers are accepted while every place of the half-open is taken, by those who are known.
//!
//! When a fleet comes back, more devices than there are places may be in their handshakes at once, each of them slow. One more
//! would turn out the oldest of them, which is the one that has almost come through, and the fleet would never be done with its
//! work. So for as long as they come through, the next ones wait in the kernel's queue. Peers that hold places and do not come
//! through close the door to nobody for longer than half a second, however often they give a place back and take it again.

use std::time::Duration;

use tokio::time::Instant;

use super::Admission;

/// It is looked again after so long whether there is room,
const LOOK: Duration = Duration::from_millis(50);
/// and after so long whether those who are half-open come through: the first of them may need a moment.
const WINDOW: Duration = Duration::from_millis(500);
/// They do when all of them would have come through within so long.
const ALL_THROUGH_WITHIN: Duration = Duration::from_secs(20);
/// When they do not, it is not looked at again for so long, and others make room for whoever comes.
const NEXT_LOOK: Duration = Duration::from_secs(30);

/// What one listener knows of it.
#[derive(Debug, Default)]
pub(crate) struct Threshold {
    closed: Option<Closed>,
    open_until: Option<Instant>,
}

/// Since when it is looked whether they come through.
#[derive(Debug)]
struct Closed {
    since: Instant,
    /// How many had come through by then.
    through: u64,
    /// When all places were last seen taken.
    full: Instant,
}

impl Threshold {
    /// Resolves when the next peer may be accepted.
    pub(crate) async fn room(&mut self, admission: &Admission) {
        while admission.is_full_of_known()
            && self.is_closed(Instant::now(), admission.through(), admission.half_open())
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether nobody is accepted at `now`, when all places are taken, there are `half_open` of them, and `through` have come
    /// through since the start. A place that was free for a moment is no reason to begin the window anew: whoever holds them could
    /// give one back now and then.
    fn is_closed(&mut self, now: Instant, through: u64, half_open: usize) -> bool {
        if self.open_until.is_some_and(|until| now < until) {
            return false;
        }
        self.open_until = None;
        let closed = match &mut self.closed {
            Some(closed) if now.duration_since(closed.full) < WINDOW => closed,
            none_lately => none_lately.insert(Closed { since: now, through, full: now }),
        };
        closed.full = now;
        let looked = now.duration_since(closed.since);
        if looked < WINDOW {
            return true;
        }
        if come_through(through - closed.through, half_open, looked) {
            *closed = Closed { since: now, through, full: now };
            return true;
        }
        self.closed = None;
        self.open_until = Some(now + NEXT_LOOK);
        false
    }
}

/// Whether `came` of them in so long are enough.
fn come_through(came: u64, half_open: usize, looked: Duration) -> bool {
    u128::from(came) * ALL_THROUGH_WITHIN.as_millis() >= half_open as u128 * looked.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{AdmissionLimits, Entrance, Ticket};
    use signet_core::Mono;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    const SOON: Duration = Duration::from_secs(20);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A table with so many places, and peers in each of them, `good` of whom have shown that they are.
    fn full(places: usize, good: usize) -> (Arc<Admission>, Vec<Ticket>) {
        let admission = Admission::new(AdmissionLimits {
            half_open_max: places,
            connections_per_address_max: None,
            connects_per_address_per_second: 0,
            refused_addresses_slowed: false,
        });
        let entrance = Entrance::another();
        let enter = |_| {
            let address = "192.0.2.1".parse().unwrap();
            admission.enter((address, entrance), Mono::START, false, |_| Some(())).unwrap().0
        };
        let tickets: Vec<_> = (0..places).map(enter).collect();
        tickets.iter().take(good).for_each(Ticket::is_good);
        (admission, tickets)
    }

    #[test]
    fn while_those_who_are_half_open_come_through_the_next_one_waits_for_a_place() {
        let (mut threshold, mut through) = (Threshold::default(), 0);
        let begun = Instant::now();
        for look in 0..1_000 {
            // Of 1 000 places 3 in each look are more than all within 20 s.
            assert!(threshold.is_closed(begun + LOOK * look, through, 1_000), "in look {look}");
            through += 3;
        }
        runtime().block_on(async {
            let (admission, mut tickets) = full(100, 75);
            let mut threshold = Threshold::default();
            {
                let mut waits = std::pin::pin!(threshold.room(&admission));
                assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            tickets.pop();
            let mut room = std::pin::pin!(threshold.room(&admission));
            assert!(
                room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready(),
                "there is a place"
            );
        });
    }

    #[test]
    fn those_who_hold_places_and_do_not_come_through_keep_nobody_out() {
        runtime().block_on(async {
            let (admission, tickets) = full(1_000, 1_000);
            let mut threshold = Threshold::default();
            tokio::time::timeout(SOON, threshold.room(&admission)).await.expect("one of them makes room");
            // And not again at each peer.
            let mut again = std::pin::pin!(threshold.room(&admission));
            assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            drop(tickets);
        });
    }

    #[test]
    fn whoever_gives_a_place_back_now_and_then_and_takes_it_again_keeps_nobody_out_for_longer() {
        let mut threshold = Threshold::default();
        let begun = Instant::now();
        // A place is free every 100 ms, and somebody comes in: it is not looked at then.
        let looks = (0..).filter(|look| look % 2 == 0).map(|look| begun + LOOK * look);
        let opens = looks.take_while(|now| threshold.is_closed(*now, 7, 1_000)).last().unwrap();
        assert_eq!(opens, begun + WINDOW - LOOK * 2);
        let open_until = begun + WINDOW + NEXT_LOOK;
        assert!(!threshold.is_closed(open_until - LOOK, 7, 1_000));
        assert!(threshold.is_closed(open_until, 7, 1_000), "and then it is looked again");
    }

    #[test]
    fn those_who_came_through_before_the_places_were_taken_do_not_count() {
        let mut threshold = Threshold::default();
        let begun = Instant::now();
        assert!(threshold.is_closed(begun, 0, 1_000));
        // There was room for a while.
        let taken = begun + WINDOW;
        assert!(threshold.is_closed(taken, 5_000, 1_000));
        assert!(threshold.is_closed(taken + WINDOW - LOOK, 5_024, 1_000));
        assert!(!threshold.is_closed(taken + WINDOW, 5_024, 1_000), "24 are too few by one");
    }

    #[test]
    fn strangers_keep_nobody_out_and_make_room_first() {
        let (admission, tickets) = full(100, 74);
        let mut threshold = Threshold::default();
        let mut room = std::pin::pin!(threshold.room(&admission));
        assert!(room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        drop(tickets);
    }

    #[test]
    fn a_fleet_comes_through_when_its_places_would_be_free_in_twenty_seconds() {
        let through = |came, half_open| come_through(came, half_open, WINDOW);
        assert!(through(103, 4_096) && through(25, 1_000));
        assert!(!through(102, 4_096) && !through(24, 1_000) && !through(0, 1));
    }
}
