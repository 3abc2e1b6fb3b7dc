//! Certificates that are refused again and again: they wait longer and longer for the next answer, and cost less and less.
//!
//! The first refusals of a certificate take their usual way. From then on it is refused as soon as it is seen, before its
//! holder's signature is verified, and the answer is held back: a client that tries again when it is refused is slowed
//! down by that, wherever it connects from, and its neighbours behind the same address are not.
//!
//! Only who has proven to hold a certificate is counted against it, so nobody can have another's certificate wait. What was
//! not looked at does not make it longer: some time after the last real look there is another one, however often it comes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use signet_core::Mono;
use signet_identity::CertificateId;

/// Refusals that are answered at once and in full.
pub const REFUSALS_FREE: u32 = 5;
/// So long after the last refusal that was answered in full, what was is forgotten.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Certificates remembered; beyond it the oldest are forgotten.
const CERTIFICATES_MAX: usize = 65_536;
/// Refusals held back at once, each of which takes a connection; further ones are answered at once.
const WAITING_MAX: usize = 1024;
/// The first wait. Each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Who refused a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A revocation list.
    List,
    /// The registry.
    Registry,
    /// The authority's policy for certificates that nobody has registered.
    Policy,
    /// Another certificate of the registry, which has its serial number.
    Namesake,
}

#[derive(Debug)]
struct Record {
    refusals: u32,
    /// Who did last.
    by: By,
    last: Mono,
    waiting: bool,
}

#[derive(Debug, Default)]
struct Table {
    records: HashMap<CertificateId, Record, foldhash::quality::RandomState>,
    /// In the order of their first refusal.
    order: VecDeque<CertificateId>,
    waiting: usize,
}

/// Who was refused how often.
#[derive(Debug, Default)]
pub struct Penalties {
    table: Mutex<Table>,
}

/// A refusal that is held back. Dropped when it is said, or nobody listens any more.
#[derive(Debug)]
pub struct Waiting {
    penalties: Arc<Penalties>,
    certificate: CertificateId,
    /// How long.
    pub pause: Duration,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = self.penalties.table.lock();
        table.waiting = table.waiting.saturating_sub(1);
        if let Some(record) = table.records.get_mut(&self.certificate) {
            record.waiting = false;
        }
    }
}

impl Penalties {
    /// The certificate was looked at and refused, and its holder had proven to hold it, or it cannot be good.
    pub fn refused(&self, certificate: CertificateId, by: By, now: Mono) {
        let mut table = self.table.lock();
        let table = &mut *table;
        let record = table.records.entry(certificate).or_insert_with(|| {
            table.order.push_back(certificate);
            Record { refusals: 0, by, last: now, waiting: false }
        });
        if now.since(record.last) >= FORGOTTEN_AFTER {
            record.refusals = 0;
        }
        record.refusals = record.refusals.saturating_add(1);
        record.by = by;
        record.last = now;
        while table.records.len() > CERTIFICATES_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.records.remove(&oldest);
        }
    }

    /// Whether the certificate is to be refused as soon as it is seen.
    #[must_use]
    pub fn is_barred(&self, certificate: &CertificateId, now: Mono) -> bool {
        let table = self.table.lock();
        table.records.get(certificate).is_some_and(|record| {
            record.refusals >= REFUSALS_FREE && now.since(record.last) < FORGOTTEN_AFTER
        })
    }

    /// A barred certificate has come again: how long its refusal is held back. `None`: it is said at once, because another one
    /// of the same certificate waits already, or too many do.
    pub fn hold_back(self: &Arc<Self>, certificate: CertificateId, longest: Duration) -> Option<Waiting> {
        let mut table = self.table.lock();
        let full = table.waiting >= WAITING_MAX;
        let record = table.records.get_mut(&certificate)?;
        record.refusals = record.refusals.saturating_add(1);
        if full || record.waiting {
            return None;
        }
        let pause = pause(record.refusals.saturating_sub(REFUSALS_FREE), longest);
        record.waiting = true;
        table.waiting += 1;
        Some(Waiting { penalties: Arc::clone(self), certificate, pause })
    }

    /// The certificate may be good again: an operator has done something about it.
    pub fn forget(&self, certificate: &CertificateId) {
        // It keeps its place: to take it out of the order would be a look at all of them.
        if let Some(record) = self.table.lock().records.get_mut(certificate) {
            record.refusals = 0;
        }
    }

    /// Whom a list refused may be good again: there are other lists.
    pub fn forget_listed(&self) {
        self.forget_by(By::List);
    }

    /// Whom its authority's policy did not let in may be let in: an operator has approved a thing, taken one away, or set a
    /// template. Which certificates that is about is not known before they come.
    pub fn forget_not_let_in(&self) {
        self.forget_by(By::Policy);
    }

    /// Whoever has the serial number of another certificate may have it alone: one was deleted.
    pub fn forget_namesakes(&self) {
        self.forget_by(By::Namesake);
    }

    fn forget_by(&self, by: By) {
        for record in self.table.lock().records.values_mut().filter(|record| record.by == by) {
            record.refusals = 0;
        }
    }

    /// Any certificate may be good again: an authority or the trust changed.
    pub fn forget_all(&self) {
        let mut table = self.table.lock();
        table.records.clear();
        table.order.clear();
    }
}

/// One second, and twice as long each time.
fn pause(beyond: u32, longest: Duration) -> Duration {
    PAUSE_MIN.saturating_mul(1 << beyond.saturating_sub(1).min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn id(n: u32) -> CertificateId {
        CertificateId::of(&n.to_be_bytes())
    }

    #[test]
    fn the_first_refusals_are_free_and_then_the_wait_doubles_up_to_its_end() {
        let penalties = Arc::new(Penalties::default());
        let mut pauses = Vec::new();
        for _ in 0..14 {
            if penalties.is_barred(&id(1), Mono::START) {
                pauses.push(penalties.hold_back(id(1), LONGEST).expect("nobody waits").pause.as_secs());
            } else {
                assert!(pauses.is_empty());
                penalties.refused(id(1), By::Registry, Mono::START);
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!penalties.is_barred(&id(2), Mono::START), "others do not wait");
    }

    #[test]
    fn one_certificate_waits_in_one_connection() {
        let penalties = Arc::new(Penalties::default());
        for _ in 0..10 {
            penalties.refused(id(1), By::Registry, Mono::START);
        }
        let first = penalties.hold_back(id(1), LONGEST).expect("nobody waits");
        assert!(penalties.hold_back(id(1), LONGEST).is_none());
        drop(first);
        assert!(penalties.hold_back(id(1), LONGEST).is_some());
    }

    #[test]
    fn time_and_operators_make_up_for_it() {
        let penalties = Arc::new(Penalties::default());
        for n in 1..=3 {
            for _ in 0..10 {
                penalties.refused(id(n), By::Registry, Mono::START);
            }
        }
        assert!(!penalties.is_barred(&id(1), Mono::START.after(FORGOTTEN_AFTER)));
        penalties.refused(id(1), By::Registry, Mono::START.after(FORGOTTEN_AFTER));
        assert!(!penalties.is_barred(&id(1), Mono::START.after(FORGOTTEN_AFTER)), "it begins anew");
        penalties.forget(&id(2));
        assert!(!penalties.is_barred(&id(2), Mono::START) && penalties.is_barred(&id(3), Mono::START));
        penalties.refused(id(2), By::Registry, Mono::START);
        let in_order = penalties.table.lock().order.clone();
        assert_eq!(in_order, [id(1), id(2), id(3)], "it keeps its one place");
        penalties.forget_all();
        assert!(!penalties.is_barred(&id(3), Mono::START));
    }

    #[test]
    fn who_was_not_let_in_by_policy_is_pardoned_apart() {
        let penalties = Arc::new(Penalties::default());
        let all = [By::List, By::Registry, By::Policy];
        for _ in 0..REFUSALS_FREE {
            for (n, by) in (0..).zip(all) {
                penalties.refused(id(n), by, Mono::START);
            }
        }
        penalties.forget_not_let_in();
        assert_eq!([0, 1, 2].map(|n| penalties.is_barred(&id(n), Mono::START)), [true, true, false]);
    }

    #[test]
    fn a_deleted_certificate_lets_off_those_it_was_in_the_way_of_and_nobody_else() {
        let penalties = Penalties::default();
        let all = [By::Namesake, By::Registry, By::Policy, By::List];
        for (n, by) in (0..).zip(all) {
            (0..REFUSALS_FREE).for_each(|_| penalties.refused(id(n), by, Mono::START));
        }
        penalties.forget_namesakes();
        let barred: Vec<bool> = (0..4).map(|n| penalties.is_barred(&id(n), Mono::START)).collect();
        assert_eq!(barred, [false, true, true, true]);
    }

    #[test]
    fn another_list_pardons_whom_a_list_refused_and_nobody_else() {
        let penalties = Arc::new(Penalties::default());
        for _ in 0..REFUSALS_FREE {
            penalties.refused(id(1), By::List, Mono::START);
            penalties.refused(id(2), By::Registry, Mono::START);
        }
        penalties.forget_listed();
        assert!(!penalties.is_barred(&id(1), Mono::START) && penalties.is_barred(&id(2), Mono::START));
    }

    #[test]
    fn however_often_it_comes_it_is_looked_at_again_after_a_while() {
        let penalties = Arc::new(Penalties::default());
        for _ in 0..REFUSALS_FREE {
            penalties.refused(id(1), By::Registry, Mono::START);
        }
        for secs in 0..FORGOTTEN_AFTER.as_secs() {
            assert!(penalties.is_barred(&id(1), Mono::new(Duration::from_secs(secs))));
            assert!(penalties.hold_back(id(1), LONGEST).is_some());
        }
        assert!(!penalties.is_barred(&id(1), Mono::START.after(FORGOTTEN_AFTER)));
    }

    #[test]
    fn the_table_and_the_waiting_are_bounded() {
        let penalties = Arc::new(Penalties::default());
        let count = u32::try_from(CERTIFICATES_MAX).unwrap() + 10;
        for n in 0..count {
            penalties.refused(id(n), By::Registry, Mono::START);
        }
        assert_eq!(penalties.table.lock().records.len(), CERTIFICATES_MAX);
        assert_eq!(penalties.table.lock().order.len(), CERTIFICATES_MAX);
        let waiting: Vec<_> =
            (0..2000).filter_map(|n| penalties.hold_back(id(count - 1 - n), LONGEST)).collect();
        assert_eq!(waiting.len(), WAITING_MAX);
        drop(waiting);
        assert_eq!(penalties.table.lock().waiting, 0);
    }
}
