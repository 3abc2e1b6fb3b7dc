//! Live connections, judged again: by who their bearer is now, and by the certificates and lists in force.

use std::collections::HashSet;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use signet_core::CloseReason;

use crate::directory::Live;
use crate::listed::{self, Listed};
use crate::portions::Portions;
use crate::server::Broker;
use crate::tls::VerifyFailure;
use crate::{consequences, standing};

/// What became of a connection that was judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It goes on.
    Accepted,
    /// It may not go on. One that was on its way out already, and is no connection of the core any more, was not closed by
    /// this.
    Refused { closed: bool },
}

/// Judges one live connection by the trust in force, and closes it if it is no longer admitted.
pub(crate) fn judge_again(broker: &Broker, live: &Live) {
    let mut lists = Listed::in_force(broker);
    lists.learn(live.principal.lineage());
    judge(broker, live, &lists, false);
}

fn judge(broker: &Broker, live: &Live, lists: &Listed, lists_alone: bool) -> Verdict {
    let rights = if lists_alone { Verdict::Accepted } else { judge_rights(broker, live) };
    // What a list takes is taken from one too that loses its rights and is on its way out.
    if rights == (Verdict::Refused { closed: true }) {
        return rights;
    }
    match judge_certificate(broker, live, lists) {
        Verdict::Accepted => rights,
        refused => refused,
    }
}

/// Closes a live connection that has other rights than it came with.
fn judge_rights(broker: &Broker, live: &Live) -> Verdict {
    if let Some(lost) = standing::lost(broker, live) {
        return Verdict::Refused { closed: standing::close_lost(broker, live, lost) };
    }
    let Some(listening) = broker.listeners.get(live.listener) else { return Verdict::Accepted };
    let settings = listening.settings();
    let named_as_now = settings.client_id == live.settings.client_id
        && settings.identity == live.settings.identity
        && settings.names == live.settings.names;
    if !named_as_now {
        // Its name or client id might be another under the new rules, and rights hang on both.
        return Verdict::Refused { closed: broker.hub().close_rejudged(live.number, None) };
    }
    Verdict::Accepted
}

/// Why the certificate of a live connection is not accepted any more.
fn failure(broker: &Broker, live: &Live) -> Option<VerifyFailure> {
    let listening = broker.listeners.get(live.listener)?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(live.wall(broker.clock.mono()).0));
    listening.tls.load().judge_again(&live.judged, now).err()
}

/// Whether a connection holds something that is its holder's: it is not refused, and its certificate is accepted.
pub(crate) fn holds(broker: &Broker, live: &Live) -> bool {
    !live.refused && failure(broker, live).is_none()
}

/// Closes a live connection whose certificate is not accepted any more.
fn judge_certificate(broker: &Broker, live: &Live, lists: &Listed) -> Verdict {
    let Some(failure) = failure(broker, live) else { return Verdict::Accepted };
    let closed = if matches!(failure, VerifyFailure::Revoked { .. }) {
        consequences::close_listed(broker, live, lists)
    } else {
        broker.hub().close_connection(live.number, CloseReason::CertificateRevoked)
    };
    if closed {
        tracing::warn!(
            id = live.number, name = %live.principal.name(), address = %live.address,
            "closing: its certificate is no longer accepted: {failure}"
        );
    }
    Verdict::Refused { closed }
}

/// Judges every live connection by the trust in force, and what is there of those who are not connected; how many
/// connections were closed. Where lists alone have changed nobody has other rights, and that is not looked at: it is most of
/// the work, for which who is on the list would have to wait. One that is refused at CONNECT anyway lives to be told so.
pub(crate) fn judge_live(broker: &Broker, lists_alone: bool) -> usize {
    let mut lists = Listed::in_force(broker);
    let mut portions = Portions::begin();
    let live = broker.directory.snapshot();
    for live in &live {
        lists.learn(live.principal.lineage());
        portions.pause();
    }
    let (mut closed, mut staying) = (0, HashSet::new());
    for live in live.iter().filter(|live| !live.refused) {
        portions.pause();
        match judge(broker, live, &lists, lists_alone) {
            Verdict::Accepted => {
                staying.insert(live.principal.key());
            }
            Verdict::Refused { closed: was } => closed += usize::from(was),
        }
    }
    listed::sweep(broker, lists, &staying);
    if !lists_alone {
        broker.hub().rejudge_wills(|_| true, |author| standing::author_now(broker, author));
    }
    closed
}
