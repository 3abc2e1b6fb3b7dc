//! Enrolments that wait for an operator.
//!
//! They are kept in memory and for [`KEPT`]: a client asks again with the same request, so after a restart it is listed
//! again. Only who has shown a token or a certificate gets in here, each with few requests, so nobody can fill the table for
//! others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use parking_lot::Mutex;
use signet_core::Mono;
use signet_identity::{CertificateId, ThingName};
use signet_registry::KeyHash;

/// Enrolments that wait at once.
const WAITING_MAX: usize = 1024;
/// Enrolments of one device that wait at once; the one that has waited longest makes room.
const PER_DEVICE_MAX: usize = 4;
/// For so long after it was last asked for, one is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// By which a request is known again: of the device's name and the bytes of its signing request.
pub(crate) type Key = [u8; 32];

/// The key of a request.
pub(super) fn key(device: &ThingName, csr: &[u8]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(device.as_str().len() as u64).to_be_bytes());
    context.update(device.as_str().as_bytes());
    context.update(csr);
    let mut out = Key::default();
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The device that it would be for.
    pub(crate) device: ThingName,
    /// The public key, for comparing it with what the device shows.
    pub(crate) key: KeyHash,
    /// The label.
    pub(crate) label: Option<String>,
    /// Where it was asked from last.
    pub(crate) address: IpAddr,
}

/// What an operator said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Nothing yet.
    Not,
    /// It may have its certificate.
    Approved,
    /// It may not.
    Rejected,
}

/// An enrolment that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// By which an operator names it: hexadecimal digits.
    pub(crate) id: String,
    /// What is asked for.
    pub(crate) asked: Asked,
    /// What was said to it.
    pub(crate) decided: Decided,
    /// When it was asked for first.
    pub(crate) first: Mono,
    /// When it was asked for last.
    pub(crate) last: Mono,
}

/// What a client that asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Approved,
    /// It waits, for so long already.
    Wait(Duration),
    Rejected,
    /// The table is full.
    Full,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Approvals(Mutex<HashMap<Key, Waiting>>);

impl Approvals {
    pub(super) fn ask(&self, key: Key, asked: Asked, now: Mono) -> Verdict {
        let mut table = self.0.lock();
        table.retain(|_, waiting| now.since(waiting.last) < KEPT);
        if let Some(waiting) = table.get_mut(&key) {
            waiting.last = now;
            waiting.asked.address = asked.address;
            return match waiting.decided {
                Decided::Not => Verdict::Wait(now.since(waiting.first)),
                Decided::Approved => Verdict::Approved,
                Decided::Rejected => Verdict::Rejected,
            };
        }
        let of_device = table.iter().filter(|(_, waiting)| waiting.asked.device == asked.device);
        let (count, oldest) = of_device.fold((0, None), |(count, oldest), (key, waiting)| {
            let older = oldest.filter(|(_, first)| *first <= waiting.first);
            (count + 1, older.or(Some((*key, waiting.first))))
        });
        if let (true, Some((oldest, _))) = (count >= PER_DEVICE_MAX, oldest) {
            table.remove(&oldest);
        }
        if table.len() >= WAITING_MAX {
            return Verdict::Full;
        }
        let id = CertificateId::from_bytes(key).to_string();
        table.insert(key, Waiting { id, asked, decided: Decided::Not, first: now, last: now });
        Verdict::Wait(Duration::ZERO)
    }

    /// It has its certificate.
    pub(super) fn done(&self, key: &Key) {
        self.0.lock().remove(key);
    }

    /// Those that wait or were rejected, the oldest first.
    pub(crate) fn list(&self, now: Mono) -> Vec<Waiting> {
        let mut list: Vec<Waiting> = {
            let mut table = self.0.lock();
            table.retain(|_, waiting| now.since(waiting.last) < KEPT);
            table.values().cloned().collect()
        };
        list.sort_by(|a, b| (a.first, &a.id).cmp(&(b.first, &b.id)));
        list
    }

    /// The one whose id is `id`.
    pub(crate) fn get(&self, id: &str) -> Option<Waiting> {
        self.0.lock().values().find(|waiting| waiting.id == id).cloned()
    }

    /// Says what becomes of the one whose id is `id`, from a list; `None` when there is none any more.
    pub(crate) fn decide(&self, id: &str, decided: Decided) -> Option<Waiting> {
        let mut table = self.0.lock();
        let waiting = table.values_mut().find(|waiting| waiting.id == id)?;
        waiting.decided = decided;
        Some(waiting.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(device: &str) -> Asked {
        Asked {
            device: ThingName::try_from(device).unwrap(),
            key: KeyHash::of_spki(b"key"),
            label: None,
            address: IpAddr::from([192, 0, 2, 1]),
        }
    }

    fn at(secs: u64) -> Mono {
        Mono::default().after(Duration::from_secs(secs))
    }

    fn key_of(device: &str, csr: &[u8]) -> Key {
        key(&ThingName::try_from(device).unwrap(), csr)
    }

    #[test]
    fn it_waits_until_it_is_approved_and_another_request_of_the_device_does_not_profit() {
        let table = Approvals::default();
        let (one, other) = (key_of("a", b"1"), key_of("a", b"2"));
        assert_eq!(table.ask(one, asked("a"), at(1)), Verdict::Wait(Duration::ZERO));
        assert_eq!(table.ask(one, asked("a"), at(2)), Verdict::Wait(Duration::from_secs(1)));
        let id = table.list(at(2))[0].id.clone();
        assert_eq!(table.decide(&id, Decided::Approved).unwrap().asked.device.as_str(), "a");
        assert_eq!(table.ask(other, asked("a"), at(3)), Verdict::Wait(Duration::ZERO));
        assert_eq!(table.ask(one, asked("a"), at(3)), Verdict::Approved);
        table.done(&one);
        assert_eq!(table.ask(one, asked("a"), at(4)), Verdict::Wait(Duration::ZERO), "once");
        assert_eq!(table.decide("00", Decided::Approved), None);
    }

    #[test]
    fn names_and_requests_are_kept_apart() {
        assert_ne!(key_of("a", b"bc"), key_of("ab", b"c"));
    }

    #[test]
    fn one_device_cannot_fill_the_table_and_the_table_cannot_grow() {
        let table = Approvals::default();
        for n in 0..20u8 {
            assert_eq!(table.ask(key_of("a", &[n]), asked("a"), at(n.into())), Verdict::Wait(Duration::ZERO));
        }
        assert_eq!(table.list(at(20)).len(), PER_DEVICE_MAX);
        assert_eq!(table.list(at(20))[0].first, at(16), "the oldest made room");
        let names: Vec<_> = (PER_DEVICE_MAX..WAITING_MAX).map(|n| format!("d{n}")).collect();
        for name in &names {
            assert_eq!(table.ask(key_of(name, b""), asked(name), at(21)), Verdict::Wait(Duration::ZERO));
        }
        assert_eq!(table.ask(key_of("late", b""), asked("late"), at(22)), Verdict::Full);
        let next_day = at(22 + 24 * 3600);
        assert_eq!(table.ask(key_of("late", b""), asked("late"), next_day), Verdict::Wait(Duration::ZERO));
        assert_eq!(table.list(next_day).len(), 1, "what nobody asks for any more is forgotten");
    }
}
