//! Rotations on disk: one file each, beside the registry.

use std::io::{Error, ErrorKind, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use signet_registry::{Registry, Wall};

use super::Campaign;
use crate::ca::replace;

/// The folder in that of the registry.
const FOLDER: &str = "rotations";
/// The largest file that is read, in bytes: more than the most devices take.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// A rotation, and what of it is on disk.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) campaign: Campaign,
    /// The phase that the file says.
    saved: Option<&'static str>,
}

impl Kept {
    pub(super) const fn new(campaign: Campaign) -> Self {
        Self { campaign, saved: None }
    }

    /// Whether its phase is another than the file says. What single devices have done is found again in the registry.
    pub(super) fn is_news(&self) -> bool {
        self.saved != Some(self.campaign.phase.word())
    }

    pub(super) fn save(&mut self, registry: &Path) -> std::io::Result<()> {
        let folder = registry.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let text = serde_json::to_vec(&self.campaign).map_err(Error::other)?;
        replace(&file(&folder, &self.campaign.plan.id), &text, 0o600)?;
        self.saved = Some(self.campaign.phase.word());
        Ok(())
    }
}

fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

/// Forgets the oldest that are over, until at most `at_most` are left.
pub(super) fn forget(kept: &mut Vec<Kept>, at_most: usize, registry: &Path) {
    while kept.len() > at_most {
        let Some(oldest) = kept.iter().position(|kept| kept.campaign.is_over()) else { return };
        let gone = kept.remove(oldest);
        let path = file(&registry.join(FOLDER), &gone.campaign.plan.id);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "an old rotation cannot be removed");
        }
    }
}

/// The rotations of earlier runs, oldest first. A file that cannot be used is named in the log and stays.
pub(super) fn read(registry: &Path, known: &Registry, now: Wall) -> Vec<Kept> {
    let folder = registry.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "the rotations of earlier runs cannot be read");
            return Vec::new();
        }
    };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut kept: Vec<Kept> = files
        .filter_map(|path| match read_one(&path) {
            Ok(campaign) => Some(resumed(campaign, known, now)),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a rotation of an earlier run cannot be read");
                None
            }
        })
        .collect();
    kept.sort_by_key(|kept| kept.campaign.plan.created);
    kept
}

fn read_one(path: &Path) -> std::io::Result<Campaign> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(Error::other)
}

fn resumed(mut campaign: Campaign, known: &Registry, now: Wall) -> Kept {
    let saved = Some(campaign.phase.word());
    if !campaign.is_over() {
        campaign.resume();
        let names: Vec<_> = campaign.members.keys().cloned().collect();
        for name in &names {
            campaign.observe(name, known, now);
        }
        tracing::info!(rotation = campaign.plan.id, devices = names.len(), "a rotation goes on");
    }
    Kept { campaign, saved }
}
