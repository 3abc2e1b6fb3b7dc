//! Somebody has other rights than when it connected: its connections end, and no will goes out by the old rights.

use std::sync::Arc;

use signet_identity::{Principal, PrincipalKey};

use crate::hub::Hub;
use crate::link::{Link, Rights};
use crate::message::Author;
use crate::session::Session;

impl Hub {
    /// Closes a connection whose bearer is `principal` now, or whose bearer cannot be told now. Its will is judged by the
    /// rights of `principal` when it is sent; without one it is not sent. For the rest it is as
    /// [`Self::close_connection`]. False: there is no such connection.
    pub fn close_rejudged(&self, number: u64, principal: Option<Principal>) -> bool {
        let rights = principal.map_or(Rights::Nobody, Rights::Of);
        self.end_link(number, |link| link.mark_as(rights))
    }

    /// Judges anew the wills that sessions without a connection still hold: `now_is` says who the author of one is now, or
    /// that nobody may speak for it any more.
    pub fn rejudge_wills(
        &self,
        concerned: impl Fn(&PrincipalKey) -> bool,
        now_is: impl Fn(&Principal) -> Option<Principal>,
    ) {
        for cell in self.cells(|cell| concerned(&cell.key.principal)) {
            let mut state = cell.state.lock();
            if state.ended || state.owner.is_some() {
                continue;
            }
            let Some(armed) = &state.will else { continue };
            let rights = now_is(&armed.author.principal).map_or(Rights::Nobody, Rights::Of);
            put(&mut state, rights);
            self.record(&cell, &state);
        }
    }
}

/// A connection that may have been given other rights gives its session back.
pub(super) fn on_release(state: &mut Session, link: &Link) {
    put(state, link.rights());
}

fn put(state: &mut Session, rights: Rights) {
    match rights {
        Rights::AsConnected => {}
        Rights::Of(principal) => {
            if let Some(armed) = &mut state.will {
                let client_id = armed.author.client_id.clone();
                armed.author = Arc::new(Author { principal, client_id });
            }
        }
        Rights::Nobody => {
            state.will = None;
            state.will_due = None;
        }
    }
}
