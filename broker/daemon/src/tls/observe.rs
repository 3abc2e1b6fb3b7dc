//! How the reason of a refusal gets from the verifier, which rustls calls, to whoever drives the handshake.
//!
//! rustls reports a [`rustls::Error`], which says neither whose certificate it was nor more than a class of
//! reason, and it keeps the verifier inside the shared configuration. The handshake is therefore polled inside
//! a task-local slot: the verifier runs within that poll, on whatever thread it happens.

use std::cell::RefCell;
use std::future::Future;

use signet_identity::CertificateSummary;

use super::VerifyFailure;

tokio::task_local! {
    static SLOT: RefCell<Option<Refusal>>;
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
}

/// Drives `handshake` and returns, beside its output, what the verifier refused meanwhile.
pub async fn observed<F: Future>(handshake: F) -> (F::Output, Option<Refusal>) {
    SLOT.scope(RefCell::new(None), async {
        let output = handshake.await;
        (output, SLOT.with(|slot| slot.borrow_mut().take()))
    })
    .await
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
