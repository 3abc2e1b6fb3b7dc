//! What follows when somebody is trusted no more: connections, wills, sessions, queues and retained messages.
//!
//! A connection may be in the middle of something at that moment: a CONNECT that is about to make a session, a PUBLISH
//! that is about to be retained. So [`Hub::purge`] does not only take what is there. It marks the connections first, and
//! each of them takes back what it has made when it closes, which is when nothing more can come of it.

use std::collections::HashSet;
use std::sync::Arc;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use signet_acl::{Policy, Subject};
use signet_identity::{CertificateId, Principal, PrincipalKey};

use crate::close::CloseReason;
use crate::hub::closing::silence;
use crate::hub::{Hub, Registered, tag_of};
use crate::link::Link;
use crate::message::{Author, Message};
use crate::session::{Expiry, Session, SessionRef};
use crate::time::Now;

/// What follows when somebody is trusted no more. The default leaves nothing behind but what others have published, and
/// what of its own is retained.
#[derive(Clone, Debug, Default)]
pub struct Consequences {
    /// Whether wills are sent, judged by the policy of that moment. Default: no.
    pub send_will: bool,
    /// Whether sessions stay, with subscriptions and queues, until they expire. Default: no.
    pub keep_sessions: bool,
    /// Which retained messages are removed. Default: none.
    pub retained: RetainedTaken,
}

/// Which retained messages of somebody who is trusted no more are removed.
#[derive(Clone, Debug, Default)]
pub enum RetainedTaken {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those on topics that this policy lets their author publish to. It may not depend on client identifiers.
    Of(Arc<Policy>),
}

impl RetainedTaken {
    fn takes(&self, message: &Message) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Of(policy) => message.publisher.author().is_some_and(|author| {
                // Whatever the client called itself: a wildcard there must not protect what it has left.
                let subject = Subject { principal: &author.principal, client_id: "" };
                policy.may_publish(&subject, &message.topic).is_ok()
            }),
        }
    }
}

/// Who is trusted no more.
#[derive(Clone, Debug, Default)]
pub struct Condemned {
    /// Certificates whose connections close, and take back what they have made.
    pub certificates: HashSet<CertificateId, RandomState>,
    /// Who has nobody left: what there is of these without a connection ends too.
    pub principals: HashSet<PrincipalKey, RandomState>,
}

/// What [`Hub::purge`] ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Connections told to close.
    pub connections: usize,
    /// Sessions ended, with their subscriptions and queues, those included that end with their connection.
    pub sessions: usize,
    /// Retained messages removed.
    pub retained: usize,
}

impl Hub {
    /// Takes from those who are trusted no more what `consequences` say.
    ///
    /// From the return on nothing is taken from connections of the certificates, and nothing is handed to them. They close
    /// in their turn ([`Self::close_some`]), and the session of each goes with it. What one of them was just doing leaves
    /// nothing behind: it is undone when that connection closes. Connections of other certificates stay, whoever they
    /// belong to.
    pub fn purge(&self, condemned: &Condemned, consequences: &Arc<Consequences>, now: Now) -> Purged {
        let mut purged = Purged::default();
        let links = links_of(&self.links, &condemned.certificates);
        // What has closed already has nothing to take back, but may have something to write.
        for parting in links_of(&self.partings, &condemned.certificates) {
            parting.condemn(Arc::clone(consequences));
            silence(&parting);
        }
        for link in &links {
            link.condemn(Arc::clone(consequences));
        }
        purged.connections = links.len();
        // Once all of them are marked: from here on nothing comes of what any of them does.
        self.close_marked(&links);
        for cell in condemned.principals.iter().flat_map(|principal| self.cells_of(principal)) {
            purged.sessions += usize::from(self.purge_session(&cell, consequences, now));
        }
        for principal in &condemned.principals {
            let taken = |message: &Message| consequences.retained.takes(message);
            purged.retained += self.retained.remove_by_publisher(principal, taken);
        }
        purged
    }

    /// Condemns one connection, with `consequences` for it, its session and what its certificate has retained. For the rest
    /// it is as [`Self::close_connection`]. False: there is none.
    pub fn condemn_connection(&self, number: u64, consequences: &Arc<Consequences>) -> bool {
        self.end_link(number, |link| link.condemn(Arc::clone(consequences)))
    }

    /// Ends a session, or sees to it that its connection does; whether it ends.
    fn purge_session(&self, cell: &SessionRef, consequences: &Consequences, now: Now) -> bool {
        let _together = self.together(cell.number);
        let mut state = cell.state.lock();
        if state.ended {
            return false;
        }
        if state.owner.is_some() {
            // A condemned owner ends it; another owner keeps it.
            let condemned = cell.mailbox.lock().link().is_some_and(|link| link.condemned().is_some());
            return condemned && !consequences.keep_sessions;
        }
        if !consequences.send_will {
            forget_will(&mut state);
        }
        if consequences.keep_sessions {
            self.record(cell, &state);
            return false;
        }
        let aftermath = self.end(cell, state);
        self.settle(aftermath, now);
        true
    }

    /// Everybody who has something here, once or more often: as whom each session was had last, and who published what is
    /// retained.
    #[must_use]
    pub fn authors(&self) -> Vec<Principal> {
        let mut authors: Vec<_> =
            self.sessions.iter().map(|cell| cell.author.load().principal.clone()).collect();
        self.retained.for_each_author(|author| authors.push(author.principal.clone()));
        authors
    }

    /// The connection of `author` is over and was condemned: nothing that it has retained may be left.
    pub(crate) fn take_back(&self, author: &Author, consequences: &Consequences) {
        let principal = &author.principal;
        let theirs = |message: &Message| {
            let by = message.publisher.author();
            by.is_some_and(|by| by.principal.certificate() == principal.certificate())
                && consequences.retained.takes(message)
        };
        self.retained.remove_by_publisher(principal.key(), theirs);
    }
}

fn links_of(
    links: &DashMap<u64, Registered, RandomState>,
    certificates: &HashSet<CertificateId, RandomState>,
) -> Vec<Arc<Link>> {
    let tags: HashSet<u64, RandomState> = certificates.iter().map(tag_of).collect();
    let tagged = links.iter().filter(|registered| tags.contains(&registered.tag));
    tagged
        .filter(|registered| certificates.contains(registered.link.principal.certificate()))
        .map(|registered| Arc::clone(&registered.link))
        .collect()
}

/// A condemned connection gives its session back.
pub(super) fn on_release(state: &mut Session, reason: CloseReason, consequences: &Consequences) {
    // What the client took back itself, or what was sent before, is no longer there.
    if !consequences.send_will || reason == CloseReason::Disconnected {
        forget_will(state);
    }
    if !consequences.keep_sessions {
        state.expiry = Expiry::AtClose;
    }
}

fn forget_will(state: &mut Session) {
    state.will = None;
    state.will_due = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Actions, Input};
    use crate::connection::{Connection, ListenerRules, Peer};
    use crate::hub::{Draft, Scratch};
    use crate::limits::Limits;
    use crate::time::{Mono, Wall};
    use bytes::Bytes;
    use signet_acl::ParseOptions;
    use signet_identity::{Principal, ThingName};
    use signet_wire::{ClientId, QoS, TopicName};
    use std::task::Waker;

    #[test]
    fn a_retained_publish_under_way_is_taken_back_when_its_connection_closes() {
        let now = Now { mono: Mono::START, wall: Wall(1_800_000_000_000) };
        let policy =
            Policy::parse("role device\ntopic write #\n", "test", &ParseOptions::default()).unwrap().0;
        let hub = Hub::new(Limits::default(), Arc::new(policy));
        let name = ThingName::try_from("dev").unwrap();
        let principal = Principal::device(name, CertificateId::of(b"dev"), Vec::new());
        let peer = Peer {
            principal: principal.clone(),
            address: "192.0.2.1:40000".parse().unwrap(),
            rules: ListenerRules::default(),
        };
        let mut connection = Connection::new(Arc::clone(&hub), peer, Waker::noop().clone(), now);
        let mut actions = Actions::new();
        let client_id = ClientId::try_from("dev").unwrap();
        let connect = signet_wire::Connect {
            version: signet_wire::Version::V5,
            clean_start: true,
            keep_alive_secs: 0,
            client_id: Some(client_id.clone()),
            will: None,
            username: None,
            password: None,
            properties: signet_wire::ConnectProperties::default(),
        };
        connection.handle(Input::Connect(Ok(connect)), now, &mut actions);
        let condemned = Condemned {
            certificates: HashSet::from_iter([*principal.certificate()]),
            principals: HashSet::from_iter([principal.key().clone()]),
        };
        let consequences = Consequences { retained: RetainedTaken::All, ..Consequences::default() };
        // The connection's thread is inside PUBLISH: it has been judged, and is retained only after the purge.
        let purged = hub.purge(&condemned, &Arc::new(consequences), now);
        assert_eq!((purged.connections, purged.retained), (1, 0));
        let mut draft = Draft {
            topic: TopicName::try_from("t").unwrap(),
            payload: Bytes::from_static(b"x"),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: None,
            can_be_refused: true,
            receivers: None,
        };
        let author = Arc::new(Author { principal, client_id });
        assert!(hub.send(&mut draft, &author, connection.number(), &mut Scratch::default(), now).is_ok());
        assert_eq!(hub.retained_fill().0, 1);
        connection.handle(Input::Wake, now, &mut actions);
        assert!(connection.is_closed());
        assert_eq!(hub.retained_fill().0, 0);
    }
}
