//! Whether further peers are accepted while every place of the half-open is taken, by those who are known.
//!
//! When a fleet comes back, more devices than there are places may be in their handshakes at once, each of them slow. One more
//! would turn out the oldest of them, which is the one that has almost come through, and the fleet would never be done with its
//! work. So for as long as they come through, the next ones wait in the kernel's queue. Peers that hold places and do not come
//! through close the door to nobody for longer than a quarter of a second.

use std::time::Duration;

use tokio::time::Instant;

use super::Admission;

/// It is looked for so long whether those who are half-open come through,
const LOOK: Duration = Duration::from_millis(50);
/// and so many times: the first of them may need a moment.
const LOOKS: u32 = 5;
/// They do when all of them would have come through within so many looks.
const THROUGH_WITHIN_LOOKS: u64 = 400;
/// When they do not, it is not looked at again for so long, and others make room for whoever comes.
const NEXT_LOOK: Duration = Duration::from_secs(30);

/// What one listener knows of it.
#[derive(Debug, Default)]
pub(crate) struct Threshold {
    open_until: Option<Instant>,
}

impl Threshold {
    /// Resolves when the next peer may be accepted.
    pub(crate) async fn room(&mut self, admission: &Admission) {
        let mut looks = 0;
        while admission.is_full_of_known() && self.open_until.is_none_or(|until| until <= Instant::now()) {
            let before = admission.through();
            tokio::time::sleep(LOOK).await;
            let came = admission.through() - before;
            looks = if come_through(came, admission.half_open()) { 0 } else { looks + 1 };
            if looks == LOOKS {
                self.open_until = Some(Instant::now() + NEXT_LOOK);
            }
        }
    }
}

/// Whether so many in one look are enough.
fn come_through(came: u64, half_open: usize) -> bool {
    came * THROUGH_WITHIN_LOOKS >= half_open as u64
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
        runtime().block_on(async {
            let (admission, mut tickets) = full(100, 75);
            let through = Arc::clone(&admission);
            let coming = tokio::spawn(async move {
                loop {
                    // Others of the same crowd came through, and their places are taken again.
                    (0..10).for_each(|_| through.came_through());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            let mut threshold = Threshold::default();
            let waiting = tokio::time::timeout(LOOK * (LOOKS + 2), threshold.room(&admission)).await;
            assert!(waiting.is_err(), "nobody has left");
            tickets.pop();
            tokio::time::timeout(SOON, threshold.room(&admission)).await.expect("there is a place");
            coming.abort();
        });
    }

    #[test]
    fn those_who_hold_places_and_do_not_come_through_keep_nobody_out() {
        runtime().block_on(async {
            let (admission, tickets) = full(1_000, 1_000);
            let mut threshold = Threshold::default();
            let mut waits = std::pin::pin!(threshold.room(&admission));
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let mut threshold = Threshold::default();
            tokio::time::timeout(SOON, threshold.room(&admission)).await.expect("one of them makes room");
            // And not again at each peer.
            let mut again = std::pin::pin!(threshold.room(&admission));
            assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            drop(tickets);
        });
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
        assert!(come_through(11, 4_096) && come_through(1, 400));
        assert!(!come_through(10, 4_096) && !come_through(0, 1) && !come_through(1, 401));
    }
}
