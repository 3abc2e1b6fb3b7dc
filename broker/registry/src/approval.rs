//! Requests for certificates that an operator has to approve.
//!
//! Whoever asks has shown a right to the certificate before. What an operator said is kept over a restart of the broker.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signet_identity::ThingName;

use crate::{KeyHash, Line, Registry, RequestId, Wall};

/// The most requests of one device that wait at once; for one more the oldest that nobody has decided on makes room, or else the
/// oldest, if it has stood for a quarter of an hour.
pub const APPROVALS_PER_DEVICE_MAX: usize = 4;
/// For so long a request stands before it makes room for another of its device. Each that comes and goes is two rows of the audit
/// trail, which only grows: a device that asks without end leaves less than a thousand a day.
pub(crate) const STANDS_FOR: Duration = Duration::from_secs(15 * 60);
/// For so long after it was last noted one is kept.
pub(crate) const WAITING_KEPT: Duration = Duration::from_secs(24 * 3600);
/// So long before its end it is noted again, when it is asked for again: seldom, for each time is a row of the audit trail.
pub(crate) const NOTED_AGAIN_BEFORE: Duration = Duration::from_secs(12 * 3600);
/// For so long what an operator said holds: longer than a device may sleep over a weekend.
pub(crate) const DECISION_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// By which it is known again.
    pub id: RequestId,
    /// The device that the certificate would be for.
    pub device: ThingName,
    /// The public key, for comparing it with what the device shows.
    pub key: KeyHash,
    /// The profile that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Line>,
    /// Where it was asked from, for people.
    pub address: Line,
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The request, as it was noted last.
    pub request: ApprovalRequest,
    /// When it was asked for first.
    pub first: Wall,
    /// When it was noted last.
    pub last: Wall,
    /// What an operator said; `None`: nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// The first moment at which it is forgotten.
    pub until: Wall,
}

impl Approval {
    /// Whether it is to be noted again when it is asked for at `now`.
    #[must_use]
    pub fn to_be_noted(&self, now: Wall) -> bool {
        self.approved.is_none() && self.until <= now.after(NOTED_AGAIN_BEFORE)
    }
}

impl Registry {
    /// The request `id`, unless it is forgotten at `now`.
    #[must_use]
    pub fn approval(&self, id: &RequestId, now: Wall) -> Option<&Arc<Approval>> {
        self.approvals.get(id).filter(|approval| now < approval.until)
    }

    /// The requests that wait at `now`, or were decided on, the oldest first.
    #[must_use]
    pub fn approvals(&self, now: Wall) -> Vec<&Arc<Approval>> {
        let mut all: Vec<_> = self.approvals.values().filter(|approval| now < approval.until).collect();
        all.sort_by_key(|approval| (approval.first, approval.request.id));
        all
    }
}
