//! The revocation lists in force: remembered over a restart, shown in the metrics, warned of well before they lapse.

use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use signet_config::Checked;
use signet_core::Mono;

use crate::clock;
use crate::server::Broker;
use crate::tls::{CrlInfo, Edition, Editions, EditionsError, TlsListener, in_words, is_due};

/// The file in the state directory that remembers which lists were seen.
pub const EDITIONS_FILE: &str = "revocation-lists.json";
/// Between two looks at how much time the lists have left.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two looks at whether a file of a list is another: no content is read for it.
const STAMP_EVERY: Duration = Duration::from_millis(25);
/// What is still so is said again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(86_400);

/// Which editions of lists were seen, in memory and in a file.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// `None`: there is no place for it.
    file: Option<PathBuf>,
    editions: Editions,
    /// What was seen is not yet in the file.
    unwritten: bool,
}

impl Memory {
    /// What earlier processes have seen.
    pub(crate) fn open(config: &Checked) -> Result<Self, EditionsError> {
        let directory = config.system.state_directory.as_deref().or(config.registry.directory());
        let file = directory.map(|directory| directory.join(EDITIONS_FILE));
        let editions = file.as_deref().map(Editions::load).transpose()?.unwrap_or_default();
        Ok(Self { file, editions, unwritten: false })
    }

    pub(crate) fn editions(&self) -> &Editions {
        &self.editions
    }

    /// Remembers the lists of a state that is in force now; those that are news. There is no place where `Ok(None)` says
    /// so.
    ///
    /// # Errors
    /// When it cannot be written. It is remembered in memory, and tried again with the next state.
    pub(crate) fn see<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a Arc<TlsListener>>,
    ) -> (Vec<Edition>, Result<(), EditionsError>) {
        let mut news = Vec::new();
        for listener in listeners {
            for edition in listener.trust().editions() {
                if self.editions.see(edition.clone()) {
                    news.push(edition);
                }
            }
        }
        self.unwritten |= !news.is_empty();
        (news, self.write())
    }

    /// Remembers a list that this broker is to publish from now on, before anybody gets it. As with [`Self::see`], that it cannot
    /// be written is no reason against it.
    ///
    /// # Errors
    /// A newer one was published or in force.
    pub(crate) fn admit(&mut self, edition: Edition) -> Result<Result<(), EditionsError>, Edition> {
        let newer = self.editions.newer_published(&edition).or_else(|| self.editions.newer_than(&edition));
        if let Some(newer) = newer {
            return Err(newer.clone());
        }
        self.unwritten |= self.editions.publish(edition);
        Ok(self.write())
    }

    fn write(&mut self) -> Result<(), EditionsError> {
        let written = match &self.file {
            Some(file) if self.unwritten => write(file, &self.editions),
            _ => Ok(()),
        };
        self.unwritten &= written.is_err();
        written
    }

    /// Whether lists would be forgotten at a restart.
    pub(crate) fn forgets(&self) -> bool {
        self.file.is_none()
    }
}

fn write(file: &Path, editions: &Editions) -> Result<(), EditionsError> {
    if let Some(directory) = file.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| EditionsError::File { path: directory.to_owned(), source })?;
    }
    editions.store(file)
}

/// How much time a list has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListLevel {
    /// Enough.
    Good,
    /// The last third of its validity, or the last week, has begun.
    Due,
    /// It is past its nextUpdate.
    Stale,
}

impl ListLevel {
    /// As the metric says it: 0, 1 or 2.
    #[must_use]
    pub const fn metric_value(self) -> i64 {
        match self {
            Self::Good => 0,
            Self::Due => 1,
            Self::Stale => 2,
        }
    }
}

/// A list as the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSight {
    /// Where it is.
    pub file: String,
    /// Whose it is.
    pub issuer: String,
    /// How many certificates are in it.
    pub entries: usize,
    /// When the next one is due, Unix seconds; `None` when it does not say.
    pub next_update: Option<i64>,
    /// How much time it has left.
    pub level: ListLevel,
}

impl ListSight {
    fn new(info: CrlInfo, now: i64) -> Self {
        let validity = info.next_update.map(|end| end.saturating_sub(info.this_update));
        let level = match info.next_update.map(|end| end.saturating_sub(now)) {
            Some(left) if left < 0 => ListLevel::Stale,
            Some(left) if is_due(left, validity) => ListLevel::Due,
            _ => ListLevel::Good,
        };
        let CrlInfo { file, issuer, entries, next_update, .. } = info;
        Self { file, issuer, entries, next_update, level }
    }
}

/// The lists of every listener, and the one that this broker writes; each once.
pub(crate) fn sights(broker: &Broker) -> Vec<ListSight> {
    let now = i64::try_from(clock::unix_time().as_secs()).unwrap_or(i64::MAX);
    let authorities = broker.authorities();
    let own = authorities.iter().filter_map(|authority| {
        let list = authority.list()?;
        Some(CrlInfo {
            file: list.path.display().to_string(),
            issuer: authority.issuer().subject().to_string(),
            edition: list.number.to_string(),
            this_update: list.this_update.unix_secs(),
            next_update: Some(list.next_update.unix_secs()),
            entries: list.entries,
        })
    });
    let tls = broker.listeners.iter().map(|listening| listening.tls.load_full());
    let tls = tls.chain(broker.doors.iter().map(|door| door.tls()));
    let loaded: Vec<CrlInfo> = tls.flat_map(|tls| tls.trust().crls().collect::<Vec<_>>()).collect();
    let mut sights: Vec<ListSight> = Vec::new();
    for info in own.chain(loaded) {
        if !sights.iter().any(|known| known.file == info.file && known.issuer == info.issuer) {
            sights.push(ListSight::new(info, now));
        }
    }
    sights
}

/// Says in the log which lists want to be renewed: at once, and once a day while it is so.
pub(crate) async fn watch(broker: Arc<Broker>) {
    let mut told: HashMap<(String, String), (ListLevel, Mono)> = HashMap::new();
    loop {
        let now = broker.clock.mono();
        let sights = sights(&broker);
        told.retain(|(file, issuer), _| sights.iter().any(|s| s.file == *file && s.issuer == *issuer));
        for sight in sights {
            let key = (sight.file.clone(), sight.issuer.clone());
            let last = told.get(&key).copied();
            let again = |(level, at): (ListLevel, Mono)| level != sight.level || now >= at.after(TELL_AGAIN);
            if sight.level == ListLevel::Good {
                if last.is_some_and(|(level, _)| level != ListLevel::Good) {
                    tracing::info!(
                        file = sight.file,
                        issuer = sight.issuer,
                        "the revocation list is a new one"
                    );
                }
                told.remove(&key);
            } else if last.is_none_or(again) {
                tell(&broker, &sight);
                told.insert(key, (sight.level, now));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What shows without reading it that a file is another; `None` when it cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { inode: metadata.ino(), bytes: metadata.len(), modified })
    }
}

type Stamps = Vec<(PathBuf, Option<Stamp>)>;

/// Tells when the files of lists are others.
#[derive(Debug, Default)]
struct Stamped {
    /// What was acted upon; `None` before the first look.
    known: Option<Stamps>,
    last: Stamps,
}

impl Stamped {
    /// Whether the files are others since it last said so. A file that another was put in the place of is whole. One that is
    /// written where it is has to be the same at two looks.
    fn look(&mut self, now: Stamps) -> bool {
        let known = self.known.get_or_insert_with(|| now.clone());
        if *known == now {
            return false;
        }
        let inode = |stamp: &Option<Stamp>| stamp.map(|stamp| stamp.inode);
        let is_in_work = |(path, stamp): &(PathBuf, Option<Stamp>)| {
            let before = known.iter().find(|(known, _)| known == path).map(|(_, stamp)| stamp);
            before.is_some_and(|before| before != stamp && inode(before) == inode(stamp))
        };
        let is_whole = self.last == now || !now.iter().any(is_in_work);
        if is_whole {
            self.known = Some(now.clone());
        }
        self.last = now;
        is_whole
    }
}

/// Reloads at once when a file of a revocation list is another: who is in it is not to stay for the next look at everything.
pub(crate) async fn watch_files(broker: Arc<Broker>) {
    let mut stamped = Stamped::default();
    loop {
        tokio::time::sleep(STAMP_EVERY).await;
        let config = broker.config.load_full();
        let files = crate::state::lists_of(&config);
        if config.system.watch_files_interval.is_none() || files.is_empty() {
            stamped = Stamped::default();
            continue;
        }
        let looking = Arc::clone(&broker);
        let looked = tokio::task::spawn_blocking(move || {
            let now = files.into_iter().map(|file| (file.clone(), Stamp::of(&file))).collect();
            if stamped.look(now) && crate::reload::files_have_changed(&looking) {
                // The outcome, good or bad, is logged by the reload itself.
                drop(looking.reload("a changed revocation list"));
            }
            stamped
        });
        stamped = looked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the look at the files of revocation lists failed");
            Stamped::default()
        });
    }
}

/// Lists that were seen are not remembered over a restart. That must not keep the fleet from being served.
pub(crate) fn tell_unwritten(broker: &Broker, error: &EditionsError) {
    let what = format!("which revocation lists were seen is not remembered over a restart: {error}");
    tracing::error!("ALARM: {what}");
    crate::trail::alarm(broker, &what);
}

fn tell(broker: &Broker, sight: &ListSight) {
    let now = i64::try_from(clock::unix_time().as_secs()).unwrap_or(i64::MAX);
    let left = sight.next_update.map_or(0, |end| end.saturating_sub(now));
    let (file, issuer, words) = (&sight.file, &sight.issuer, in_words(left));
    let what = if left < 0 {
        tracing::error!(
            file,
            issuer,
            "ALARM: the revocation list was due for renewal {words} ago; crl-stale decides what happens to its \
             issuer's certificates"
        );
        format!("the revocation list of \"{issuer}\" in {file} was due for renewal {words} ago")
    } else {
        tracing::warn!(file, issuer, "ALARM: the revocation list is due for renewal in {words}");
        format!("the revocation list of \"{issuer}\" in {file} is due for renewal in {words}")
    };
    crate::trail::alarm(broker, &what);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(this_update: i64, next_update: Option<i64>, now: i64) -> ListLevel {
        let info = CrlInfo {
            file: String::new(),
            issuer: String::new(),
            edition: String::new(),
            this_update,
            next_update,
            entries: 0,
        };
        ListSight::new(info, now).level
    }

    #[test]
    fn a_list_put_in_the_place_of_another_is_whole_and_one_in_work_is_waited_for() {
        let at = |inode, bytes| {
            let stamp = Some(Stamp { inode, bytes, modified: (0, 0) });
            vec![(PathBuf::from("other.crl"), None), (PathBuf::from("a.crl"), stamp)]
        };
        let mut stamped = Stamped::default();
        assert!(!stamped.look(at(1, 10)), "it was read at the start");
        assert!(!stamped.look(at(1, 10)));
        assert!(stamped.look(at(2, 20)), "another file");
        assert!(!stamped.look(at(2, 20)));
        // Written where it is.
        assert!(!stamped.look(at(2, 0)));
        assert!(!stamped.look(at(2, 15)));
        assert!(stamped.look(at(2, 15)));
        assert!(!stamped.look(at(2, 15)));
        // Gone, and there again.
        let gone = vec![(PathBuf::from("other.crl"), None), (PathBuf::from("a.crl"), None)];
        assert!(stamped.look(gone));
        assert!(stamped.look(at(2, 15)));
    }

    #[test]
    fn the_alarm_comes_well_before_the_end() {
        const DAY: i64 = 86_400;
        for (now, expected) in [
            (0, ListLevel::Good),
            (22 * DAY, ListLevel::Good),
            (23 * DAY + 1, ListLevel::Due),
            (30 * DAY, ListLevel::Due),
            (30 * DAY + 1, ListLevel::Stale),
        ] {
            assert_eq!(level(0, Some(30 * DAY), now), expected, "{now}");
        }
        // A list of a day is not always nearly over.
        assert_eq!(level(0, Some(DAY), DAY / 2), ListLevel::Good);
        assert_eq!(level(0, Some(DAY), DAY * 3 / 4), ListLevel::Due);
        assert_eq!(level(0, None, i64::MAX), ListLevel::Good);
    }
}
