//! Failed handshakes by cause and device: the same trouble of the same device is one thing to look at, however often it
//! tries, and whether or not each try left a record.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use signet_identity::CertificateId;

use super::cause::FailureCause;
use super::failure::FailureRecord;

/// Who failed: by its certificate, or where it showed none by its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FailedDevice {
    /// The one with this certificate.
    Certificate(CertificateId),
    /// Somebody at this address; an IPv6 network counts as one.
    Address(IpAddr),
}

/// One trouble of one device.
#[derive(Debug, Clone)]
pub struct FailureGroup {
    /// Why its handshakes failed.
    pub cause: FailureCause,
    /// Who.
    pub device: FailedDevice,
    /// How often.
    pub count: u64,
    /// How many of these left a record.
    pub kept: u64,
    /// When first, in Unix milliseconds.
    pub first_ms: u64,
    /// When last, in Unix milliseconds.
    pub last_ms: u64,
    /// The newest, whether or not it was kept as a record.
    pub last: Arc<FailureRecord>,
}

/// The groups, bounded: the one that was quiet longest gives way.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<(FailureCause, FailedDevice), FailureGroup>,
    forgotten: u64,
}

impl Groups {
    /// Counts a failure. At most `groups_max` groups are kept.
    pub(super) fn add(
        &mut self,
        record: &Arc<FailureRecord>,
        network: IpAddr,
        kept: bool,
        groups_max: usize,
    ) {
        if groups_max == 0 {
            return;
        }
        let id = record.certificate.as_ref().and_then(|shown| CertificateId::from_hex(&shown.sha256));
        let device = id.map_or(FailedDevice::Address(network), FailedDevice::Certificate);
        let key = (record.cause, device.clone());
        if !self.groups.contains_key(&key) && self.groups.len() >= groups_max {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.last_ms);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.groups.remove(&oldest);
                self.forgotten = self.forgotten.saturating_add(1);
            }
        }
        let group = self.groups.entry(key).or_insert_with(|| FailureGroup {
            cause: record.cause,
            device,
            count: 0,
            kept: 0,
            first_ms: record.at_ms,
            last_ms: record.at_ms,
            last: Arc::clone(record),
        });
        group.count = group.count.saturating_add(1);
        group.kept = group.kept.saturating_add(u64::from(kept));
        // The wall clock may go back.
        group.first_ms = group.first_ms.min(record.at_ms);
        group.last_ms = group.last_ms.max(record.at_ms);
        group.last = Arc::clone(record);
    }

    /// All of them, the most frequent first.
    pub(super) fn all(&self) -> Vec<FailureGroup> {
        let mut all: Vec<FailureGroup> = self.groups.values().cloned().collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then(b.last_ms.cmp(&a.last_ms)));
        all
    }

    /// How many groups gave way.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
