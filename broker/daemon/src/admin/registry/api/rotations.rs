//! Commanded rotation: devices are told to renew their certificates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /registry/rotations/start`. Names, or any of the filters, or `all`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StartRotation {
    /// These devices.
    #[serde(default)]
    pub names: Vec<String>,
    /// Those whose newest certificate ends within so many seconds.
    pub expiring_within_seconds: Option<u64>,
    /// Those in this group.
    pub group: Option<String>,
    /// Those of this type.
    pub thing_type: Option<String>,
    /// Every device with a certificate in force.
    #[serde(default)]
    pub all: bool,
    /// Over how long the commands are spread.
    #[serde(default)]
    pub spread_seconds: u64,
    /// How many of a hundred go first, and have to be through before the others are told; 0: all are told.
    #[serde(default)]
    pub canary_percent: u8,
    /// When those that are not through have failed, from now.
    pub within_seconds: u64,
    /// How long a device has to begin before it is told again.
    pub ask_again_seconds: u64,
    /// The template that the devices are told to ask for.
    pub template: Option<String>,
}

/// One rotation, in `GET /registry/rotations`, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RotationRow {
    /// What tells it from others; the devices are told it as `requestId`.
    pub id: String,
    /// `canary`, `all`, `held`, `cancelled` or `finished`.
    pub phase: String,
    /// Why it is held.
    pub held_because: Option<String>,
    /// Who commanded it.
    pub by: String,
    /// When.
    pub created_ms: u64,
    /// When those that are not through have failed.
    pub deadline_ms: u64,
    /// How many devices.
    pub devices: u64,
    /// How many of them go first.
    pub canaries: u64,
    /// How many are `waiting`, `offline`, `asked`, `rotating`, `done`, `failed`.
    pub states: BTreeMap<String, u64>,
}

/// `POST /registry/rotations/show`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ShowRotation {
    /// Which, by the beginning of its id; the newest when absent.
    pub id: Option<String>,
    /// Devices after this one.
    pub after: Option<String>,
    /// Only devices in this state.
    pub state: Option<String>,
}

/// The answer to [`ShowRotation`] and [`StartRotation`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RotationShown {
    /// As a whole.
    pub rotation: RotationRow,
    /// At most 500 devices.
    pub devices: Vec<RotationDevice>,
    /// Ask again with this as `after` for the next ones; absent at the end.
    pub next: Option<String>,
}

/// A device of a rotation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RotationDevice {
    /// Its name.
    pub name: String,
    /// `waiting`, `offline`, `asked`, `rotating`, `done` or `failed`.
    pub state: String,
    /// Why it has failed.
    pub why: Option<String>,
    /// Whether it is one of the first.
    pub canary: bool,
    /// When its turn comes or came, when that is known.
    pub turn_ms: Option<u64>,
    /// When it was told last.
    pub asked_ms: Option<u64>,
    /// How often it was told.
    pub asked: u32,
    /// The certificate that it is to replace.
    pub old: String,
    /// The certificate that it has now.
    pub new: Option<String>,
}

/// `POST /registry/rotations/change`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChangeRotation {
    /// Which, by the beginning of its id.
    pub id: String,
    /// What is done.
    pub action: RotationAction,
}

/// What is done with a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationAction {
    /// Nobody is told any more.
    Cancel,
    /// The others go, whatever became of the first devices.
    Continue,
}
