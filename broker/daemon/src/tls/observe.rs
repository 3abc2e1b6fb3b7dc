//! How the reason of a refusal gets from the verifier, which rustls calls, to whoever drives the handshake.
//!
//! rustls reports a [`rustls::Error`], which says neither whose certificate it was nor more than a class of
//! reason, and it keeps the verifier inside the shared configuration. The handshake is therefore polled inside
//! a task-local slot: the verifier runs within that poll, on whatever thread it happens.

use std::cell::RefCell;
use std::future::Future;

use signet_identity::{CertificateId, CertificateSummary};

use super::VerifyFailure;

/// Says of a certificate whether it is refused at once.
pub type Gate = Box<dyn Fn(&CertificateId) -> bool + Send>;

tokio::task_local! {
    static SLOT: RefCell<Option<Refusal>>;
    static GATE: Gate;
}

/// A certificate that the verifier refused during a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub failure: VerifyFailure,
    /// The client's own certificate.
    pub leaf: CertificateSummary,
    /// How many certificates the client sent.
    pub certificates: usize,
    /// The id of the client's own one.
    pub id: CertificateId,
}

/// Drives `handshake` and returns, beside its output, what the verifier refused meanwhile.
pub async fn observed<F: Future>(handshake: F) -> (F::Output, Option<Refusal>) {
    SLOT.scope(RefCell::new(None), async {
        let output = handshake.await;
        (output, SLOT.with(|slot| slot.borrow_mut().take()))
    })
    .await
}

/// [`observed`], where a certificate that `gate` bars is refused before its path and its holder's signature are looked at.
pub async fn guarded<F: Future>(gate: Gate, handshake: F) -> (F::Output, Option<Refusal>) {
    GATE.scope(gate, observed(handshake)).await
}

/// Whether the present handshake's gate bars this certificate.
pub(super) fn is_barred(certificate: &CertificateId) -> bool {
    GATE.try_with(|gate| gate(certificate)).unwrap_or(false)
}

/// Whether the present handshake has met a certificate that is barred: what is said to its peer from then on is held back.
pub(crate) fn holds_back() -> bool {
    let barred = |refusal: &Option<Refusal>| {
        refusal.as_ref().is_some_and(|refusal| matches!(refusal.failure, VerifyFailure::RefusedBefore { .. }))
    };
    SLOT.try_with(|slot| barred(&slot.borrow())).unwrap_or(false)
}

/// [`observed`] for a handshake that is driven without a runtime.
pub fn observed_sync<T>(handshake: impl FnOnce() -> T) -> (T, Option<Refusal>) {
    SLOT.sync_scope(RefCell::new(None), || {
        let output = handshake();
        (output, SLOT.with(|slot| slot.borrow_mut().take()))
    })
}

/// Notes a refusal for whoever observes the present handshake; without an observer nothing is computed.
pub(super) fn note(refusal: impl FnOnce() -> Refusal) {
    let _unobserved = SLOT.try_with(|slot| slot.borrow_mut().replace(refusal()));
}
