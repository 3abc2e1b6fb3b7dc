//! Live connections, judged again: by who their bearer is now, and by the certificates and lists in force.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use signet_core::CloseReason;

use crate::directory::Live;
use crate::listed::{self, Listed};
use crate::server::Broker;
use crate::tls::VerifyFailure;
use crate::{consequences, standing};

/// Judges one live connection by the trust in force, and closes it if it is no longer admitted; whether it did.
pub(crate) fn judge_again(broker: &Broker, live: &Live) -> bool {
    let mut lists = Listed::in_force(broker);
    lists.learn(live.principal.lineage());
    judge_rights(broker, live) || judge_certificate(broker, live, &lists)
}

/// Closes a live connection that has other rights than it came with; whether it did.
fn judge_rights(broker: &Broker, live: &Live) -> bool {
    if let Some(lost) = standing::lost(broker, live) {
        return standing::close_lost(broker, live, lost);
    }
    let Some(listening) = broker.listeners.get(live.listener) else { return false };
    let settings = listening.settings();
    let named_as_now = settings.client_id == live.settings.client_id
        && settings.identity == live.settings.identity
        && settings.names == live.settings.names;
    if !named_as_now {
        // Its name or client id might be another under the new rules, and rights hang on both.
        return broker.hub().close_rejudged(live.number, None);
    }
    false
}

/// Closes a live connection whose certificate is not accepted any more; whether it did.
fn judge_certificate(broker: &Broker, live: &Live, lists: &Listed) -> bool {
    let Some(listening) = broker.listeners.get(live.listener) else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_millis(live.wall(broker.clock.mono()).0));
    let Err(failure) = listening.tls.load().judge_again(&live.judged, now) else {
        return false;
    };
    tracing::warn!(
        id = live.number, name = %live.principal.name(), address = %live.address,
        "closing: its certificate is no longer accepted: {failure}"
    );
    if matches!(failure, VerifyFailure::Revoked { .. }) {
        return consequences::close_listed(broker, live, lists);
    }
    broker.hub().close_connection(live.number, CloseReason::CertificateRevoked)
}

/// Judges every live connection by the trust in force, and what is there of those who are not connected; how many
/// connections were closed. Where lists alone have changed nobody has other rights, and that is not looked at: it is most of
/// the work, for which who is on the list would have to wait.
pub(crate) fn judge_live(broker: &Broker, lists_alone: bool) -> usize {
    let mut lists = Listed::in_force(broker);
    let live = broker.directory.snapshot();
    live.iter().for_each(|live| lists.learn(live.principal.lineage()));
    let (closed, staying): (Vec<_>, Vec<_>) = live.into_iter().partition(|live| {
        !lists_alone && judge_rights(broker, live) || judge_certificate(broker, live, &lists)
    });
    let closed = closed.len();
    let staying = staying.iter().map(|live| live.principal.key()).collect();
    listed::sweep(broker, lists, &staying);
    if !lists_alone {
        broker.hub().rejudge_wills(|_| true, |author| standing::author_now(broker, author));
    }
    closed
}
