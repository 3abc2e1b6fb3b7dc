//! An update of several devices: who was asked, who fetches which part, how it ended. It knows no connection and no clock.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::image::Image;

/// The most bytes of a part, whatever a device asks for: what fits a record of 4 KiB with its topic.
pub(super) const PART_BYTES_MAX: usize = 2048;

/// A message to a device.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Bytes,
}

/// Where one device is with its update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(super) enum Stage {
    /// Its turn has not come.
    Waiting,
    /// It was told, and has not answered.
    Told,
    /// It has taken the order and fetches.
    Fetching {
        /// Bytes that it has asked for.
        bytes: u64,
    },
    /// It has the whole image and starts it.
    Installed,
    /// The new image reached the broker and stays.
    Confirmed,
    /// It did not take it, or went back.
    Failed {
        /// Why, in the device's words or ours.
        why: String,
    },
}

impl Stage {
    const fn is_over(&self) -> bool {
        matches!(self, Self::Confirmed | Self::Failed { .. })
    }
}

/// What a device asks for.
#[derive(Deserialize)]
struct Wanted {
    version: String,
    offset: u64,
    bytes_max: u64,
}

/// What a device answers to a command.
#[derive(Deserialize)]
struct Result {
    command: String,
    id: Option<String>,
    ok: bool,
    error: Option<String>,
    state: Option<String>,
}

/// An update under way.
pub(super) struct Campaign {
    image: Image,
    /// The id of this campaign's command: results of another one are not ours.
    id: String,
    at_once: usize,
    devices: BTreeMap<String, Stage>,
    waiting: VecDeque<String>,
}

impl Campaign {
    /// An update of `devices` to `image`, at most `at_once` of them at a time.
    pub(super) fn new(image: Image, id: String, devices: &[String], at_once: usize) -> Self {
        Self {
            image,
            id,
            at_once: at_once.max(1),
            devices: devices.iter().map(|device| (device.clone(), Stage::Waiting)).collect(),
            waiting: devices.iter().cloned().collect(),
        }
    }

    /// The filters of what devices say.
    pub(super) fn filters(&self) -> impl Iterator<Item = String> + '_ {
        self.devices
            .keys()
            .flat_map(|device| ["ota", "results"].map(|level| format!("devices/{device}/telemetry/{level}")))
    }

    /// The orders of those whose turn it is.
    pub(super) fn next_orders(&mut self) -> Vec<Outgoing> {
        let under_way =
            self.devices.values().filter(|stage| **stage != Stage::Waiting && !stage.is_over()).count();
        let turns = self.at_once.saturating_sub(under_way);
        let mut orders = Vec::new();
        while orders.len() < turns {
            let Some(device) = self.waiting.pop_front() else { break };
            orders.push(Outgoing {
                topic: format!("devices/{device}/commands/ota"),
                payload: self.image.order(&self.id).into(),
            });
            self.devices.insert(device, Stage::Told);
        }
        orders
    }

    /// A message from a device, and what it is answered with.
    pub(super) fn heard(&mut self, topic: &str, payload: &[u8]) -> Option<Outgoing> {
        let (device, what) = topic.strip_prefix("devices/")?.split_once("/telemetry/")?;
        let stage = self.devices.get_mut(device)?;
        if stage.is_over() || *stage == Stage::Waiting {
            return None;
        }
        match what {
            "ota" => {
                let wanted: Wanted = serde_json::from_slice(payload).ok()?;
                if wanted.version != self.image.version() {
                    return None;
                }
                let most =
                    usize::try_from(wanted.bytes_max).map_or(PART_BYTES_MAX, |most| most.min(PART_BYTES_MAX));
                let part = self.image.part(wanted.offset, most)?;
                *stage = Stage::Fetching { bytes: wanted.offset + part.len() as u64 };
                let topic = format!("devices/{device}/commands/ota/{}", wanted.offset);
                Some(Outgoing { topic, payload: part })
            }
            "results" => {
                let result: Result = serde_json::from_slice(payload).ok()?;
                let ours = result.id.as_deref().is_none_or(|id| id == self.id);
                if result.command == "ota" && ours {
                    settle(stage, result, self.image.version());
                }
                None
            }
            _ => None,
        }
    }

    /// Nobody waits any longer: whoever is not through has failed.
    pub(super) fn give_up(&mut self, why: &str) {
        self.waiting.clear();
        for stage in self.devices.values_mut().filter(|stage| !stage.is_over()) {
            let done = match stage {
                Stage::Waiting => "its turn did not come".to_owned(),
                Stage::Told => "it did not answer: is it connected?".to_owned(),
                Stage::Fetching { bytes } => format!("it stopped after {bytes} bytes"),
                Stage::Installed | Stage::Confirmed | Stage::Failed { .. } => {
                    "it has the image and did not come back with it".to_owned()
                }
            };
            *stage = Stage::Failed { why: format!("{done} ({why})") };
        }
    }

    /// Whether every device is through.
    pub(super) fn is_over(&self) -> bool {
        self.devices.values().all(Stage::is_over)
    }

    /// Where each device is.
    pub(super) const fn devices(&self) -> &BTreeMap<String, Stage> {
        &self.devices
    }

    /// Bytes that all devices have fetched.
    pub(super) fn bytes(&self) -> u64 {
        self.devices
            .values()
            .map(|stage| match stage {
                Stage::Fetching { bytes } => *bytes,
                Stage::Installed | Stage::Confirmed => self.image.size(),
                Stage::Waiting | Stage::Told | Stage::Failed { .. } => 0,
            })
            .sum()
    }
}

fn settle(stage: &mut Stage, result: Result, version: &str) {
    let state = result.state.unwrap_or_default();
    *stage = if !result.ok {
        let why = result.error.unwrap_or(state);
        Stage::Failed { why: if why.is_empty() { "it gave no reason".to_owned() } else { printable(&why) } }
    } else if state.starts_with("installed") {
        Stage::Installed
    } else if state == format!("confirmed {version}") {
        Stage::Confirmed
    } else if *stage == Stage::Told {
        Stage::Fetching { bytes: 0 }
    } else {
        return;
    };
}

/// A device's words, for a terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(char::escape_default).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::signed;
    use super::*;

    fn campaign(devices: &[&str], at_once: usize) -> Campaign {
        let devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
        Campaign::new(signed(&[7; 5000], "1.4.0"), "c1".into(), &devices, at_once)
    }

    fn wanted(version: &str, offset: u64) -> Vec<u8> {
        format!(r#"{{"version":"{version}","offset":{offset},"bytes_max":2048}}"#).into_bytes()
    }

    fn result(ok: bool, more: &str) -> Vec<u8> {
        format!(r#"{{"device":"a","command":"ota","ok":{ok}{more}}}"#).into_bytes()
    }

    #[test]
    fn a_device_is_told_fetches_part_by_part_and_is_through_when_the_new_image_came_back() {
        let mut campaign = campaign(&["a"], 10);
        let orders = campaign.next_orders();
        assert_eq!(orders[0].topic, "devices/a/commands/ota");
        assert!(campaign.next_orders().is_empty(), "told once");
        campaign.heard("devices/a/telemetry/results", &result(true, r#","id":"c1""#));
        for (offset, len) in [(0, 2048), (2048, 2048), (2048, 2048), (4096, 904)] {
            let part = campaign.heard("devices/a/telemetry/ota", &wanted("1.4.0", offset)).unwrap();
            assert_eq!(part.topic, format!("devices/a/commands/ota/{offset}"));
            assert_eq!(part.payload.len(), len);
        }
        assert_eq!(campaign.bytes(), 5000);
        campaign.heard("devices/a/telemetry/results", &result(true, r#","state":"installed, starting it""#));
        assert!(!campaign.is_over(), "it has not come back yet");
        campaign.heard("devices/a/telemetry/results", &result(true, r#","state":"confirmed 1.3.0""#));
        assert!(!campaign.is_over(), "that is the old version");
        campaign.heard("devices/a/telemetry/results", &result(true, r#","state":"confirmed 1.4.0""#));
        assert_eq!(campaign.devices()["a"], Stage::Confirmed);
        assert!(campaign.is_over());
    }

    #[test]
    fn nothing_is_sent_to_who_was_not_told_or_asks_for_what_is_not_there() {
        let mut campaign = campaign(&["a", "b"], 1);
        campaign.next_orders();
        let mut asks = |topic: &str, payload: &[u8]| campaign.heard(topic, payload);
        assert_eq!(asks("devices/b/telemetry/ota", &wanted("1.4.0", 0)), None, "its turn has not come");
        assert_eq!(asks("devices/c/telemetry/ota", &wanted("1.4.0", 0)), None, "another device");
        assert_eq!(asks("devices/a/telemetry/ota", &wanted("1.3.0", 0)), None, "another version");
        assert_eq!(asks("devices/a/telemetry/ota", &wanted("1.4.0", 5000)), None, "behind the end");
        assert_eq!(asks("devices/a/telemetry/ota", &wanted("1.4.0", u64::MAX)), None, "far behind the end");
        assert_eq!(asks("devices/a/telemetry/ota", b"{"), None, "no JSON");
        assert_eq!(asks("other/a/telemetry/ota", &wanted("1.4.0", 0)), None, "another topic");
        assert!(asks("devices/a/telemetry/ota", &wanted("1.4.0", 4999)).is_some());
    }

    #[test]
    fn the_next_device_is_told_when_the_one_before_is_through() {
        let mut campaign = campaign(&["a", "b", "c"], 1);
        assert_eq!(campaign.next_orders().len(), 1);
        assert_eq!(campaign.next_orders(), []);
        campaign.heard("devices/a/telemetry/results", &result(false, r#","error":"not newer \u001b[2J""#));
        let Stage::Failed { why } = &campaign.devices()["a"] else { panic!("it refused") };
        assert!(why.starts_with("not newer") && !why.contains('\u{1b}'), "{why}");
        assert_eq!(campaign.next_orders()[0].topic, "devices/b/commands/ota");
        campaign.give_up("after 1 h");
        assert!(campaign.is_over());
        assert!(matches!(&campaign.devices()["c"], Stage::Failed { why } if why.contains("turn")));
    }

    #[test]
    fn a_result_of_another_command_or_campaign_changes_nothing() {
        let mut campaign = campaign(&["a"], 1);
        campaign.next_orders();
        campaign.heard("devices/a/telemetry/results", &result(false, r#","id":"c0","error":"old""#));
        campaign.heard("devices/a/telemetry/results", br#"{"command":"report","ok":false}"#);
        assert_eq!(campaign.devices()["a"], Stage::Told);
    }
}
