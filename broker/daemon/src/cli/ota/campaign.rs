//! An update of several devices: who was asked, who fetches which part, how it ended. It knows no connection and reads no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::image::Image;

/// The most bytes of a part, whatever a device asks for: what fits a record of 4 KiB with its topic.
pub(super) const PART_BYTES_MAX: usize = 2048;
/// After how long without a word a device is told again: it may have lost power, and forgotten.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// What a device says that has an update under way.
const BUSY: &str = "not now";
/// What a device says that runs this version or a later one.
const NOT_NEWER: &str = "image refused: not newer than what runs";

/// A message to a device.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Bytes,
}

/// Where one device is with its update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Stage {
    /// Its turn has not come.
    Waiting,
    /// It was told, and has not answered.
    Told,
    /// It has taken the order and fetches.
    Fetching {
        /// Bytes that it has asked for over MQTT.
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

/// How one device took the update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where it is.
    #[serde(flatten)]
    pub stage: Stage,
    /// Seconds since it was told first; until its end, when it is over.
    pub seconds: u64,
    /// How often it was told.
    pub orders: u32,
    #[serde(skip)]
    told_at: Duration,
    #[serde(skip)]
    heard_at: Duration,
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
    report: Option<DeviceReport>,
}

/// What a device says of itself.
#[derive(Deserialize)]
struct DeviceReport {
    firmware: String,
}

/// What an operator allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// So many devices at a time.
    pub(super) at_once: usize,
    /// So long for one device.
    pub(super) device_within: Duration,
}

/// An update under way.
pub(super) struct Campaign {
    image: Image,
    /// The id of this campaign's command: results of another one are not ours.
    id: String,
    terms: Terms,
    devices: BTreeMap<String, Verdict>,
    waiting: VecDeque<String>,
}

impl Campaign {
    /// An update of `devices` to `image`.
    pub(super) fn new(image: Image, id: String, devices: &[String], terms: Terms) -> Self {
        let nobody = Verdict {
            stage: Stage::Waiting,
            seconds: 0,
            orders: 0,
            told_at: Duration::ZERO,
            heard_at: Duration::ZERO,
        };
        let devices: BTreeMap<_, _> = devices.iter().map(|device| (device.clone(), nobody.clone())).collect();
        let waiting = devices.keys().cloned().collect();
        Self { image, id, terms, devices, waiting }
    }

    /// The filters of what devices say.
    pub(super) fn filters(&self) -> impl Iterator<Item = String> + '_ {
        self.devices
            .keys()
            .flat_map(|device| ["ota", "results"].map(|level| format!("devices/{device}/telemetry/{level}")))
    }

    /// What is due at `now`, which is counted from the campaign's beginning: orders of those whose turn it is, and of those who
    /// said nothing for long. Who had its time has failed.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Outgoing> {
        let mut orders = Vec::new();
        let mut under_way = 0;
        for (device, verdict) in &mut self.devices {
            if verdict.stage == Stage::Waiting || verdict.stage.is_over() {
                continue;
            }
            let taken = now.saturating_sub(verdict.told_at);
            verdict.seconds = taken.as_secs();
            if taken >= self.terms.device_within {
                verdict.stage =
                    Stage::Failed { why: format!("{} ({} s)", undone(&verdict.stage), taken.as_secs()) };
                continue;
            }
            under_way += 1;
            if now.saturating_sub(verdict.heard_at) >= TOLD_AGAIN_AFTER {
                verdict.heard_at = now;
                verdict.orders += 1;
                orders.push(order(device, &self.image, &self.id));
            }
        }
        for _ in under_way..self.terms.at_once.max(1) {
            let Some(device) = self.waiting.pop_front() else { break };
            if let Some(verdict) = self.devices.get_mut(&device) {
                *verdict = Verdict { stage: Stage::Told, seconds: 0, orders: 1, told_at: now, heard_at: now };
            }
            orders.push(order(&device, &self.image, &self.id));
        }
        orders
    }

    /// A message from a device, and what it is answered with.
    pub(super) fn heard(&mut self, topic: &str, payload: &[u8], now: Duration) -> Option<Outgoing> {
        let (device, what) = topic.strip_prefix("devices/")?.split_once("/telemetry/")?;
        let verdict = self.devices.get_mut(device)?;
        if verdict.stage.is_over() || verdict.stage == Stage::Waiting {
            return None;
        }
        verdict.heard_at = now;
        match what {
            "ota" => {
                let wanted: Wanted = serde_json::from_slice(payload).ok()?;
                if wanted.version != self.image.version() {
                    return None;
                }
                let most =
                    usize::try_from(wanted.bytes_max).map_or(PART_BYTES_MAX, |most| most.min(PART_BYTES_MAX));
                let part = self.image.part(wanted.offset, most)?;
                verdict.stage = Stage::Fetching { bytes: wanted.offset + part.len() as u64 };
                let topic = format!("devices/{device}/commands/ota/{}", wanted.offset);
                Some(Outgoing { topic, payload: part })
            }
            "results" => {
                let result: Result = serde_json::from_slice(payload).ok()?;
                let ours = result.id.as_deref().is_none_or(|id| id == self.id);
                match result.command.as_str() {
                    "ota" if ours && result.error.as_deref() == Some(NOT_NEWER) => {
                        // Perhaps it was told before, and runs it already: it has the last word.
                        let payload = serde_json::json!({ "id": self.id }).to_string().into();
                        return Some(Outgoing {
                            topic: format!("devices/{device}/commands/report"),
                            payload,
                        });
                    }
                    "ota" if ours => settle(&mut verdict.stage, result, self.image.version()),
                    "report" if result.id.as_deref() == Some(self.id.as_str()) => {
                        let runs = result.report?.firmware;
                        verdict.stage = if runs == self.image.version() {
                            Stage::Confirmed
                        } else {
                            Stage::Failed { why: format!("{NOT_NEWER}, which is {}", printable(&runs)) }
                        };
                    }
                    _ => {}
                }
                None
            }
            _ => None,
        }
    }

    /// Nobody waits any longer: whoever is not through has failed.
    pub(super) fn give_up(&mut self, why: &str) {
        self.waiting.clear();
        for verdict in self.devices.values_mut().filter(|verdict| !verdict.stage.is_over()) {
            verdict.stage = Stage::Failed { why: format!("{} ({why})", undone(&verdict.stage)) };
        }
    }

    /// Whether every device is through.
    pub(super) fn is_over(&self) -> bool {
        self.devices.values().all(|verdict| verdict.stage.is_over())
    }

    /// How many run the new image, and how many will not.
    pub(super) fn count(&self) -> (usize, usize) {
        let confirmed = self.devices.values().filter(|verdict| verdict.stage == Stage::Confirmed).count();
        let over = self.devices.values().filter(|verdict| verdict.stage.is_over()).count();
        (confirmed, over - confirmed)
    }

    /// How each device took it.
    pub(super) fn into_devices(self) -> BTreeMap<String, Verdict> {
        self.devices
    }

    /// Bytes that all devices have fetched, or have no more need of.
    pub(super) fn bytes(&self) -> u64 {
        self.devices
            .values()
            .map(|verdict| match verdict.stage {
                Stage::Fetching { bytes } => bytes,
                Stage::Installed | Stage::Confirmed | Stage::Failed { .. } => self.image.size(),
                Stage::Waiting | Stage::Told => 0,
            })
            .sum()
    }
}

fn order(device: &str, image: &Image, id: &str) -> Outgoing {
    Outgoing { topic: format!("devices/{device}/commands/ota"), payload: image.order(id).into() }
}

/// What a device did not do in its time.
fn undone(stage: &Stage) -> String {
    match stage {
        Stage::Waiting => "its turn did not come".to_owned(),
        Stage::Told => "it did not answer: is it connected?".to_owned(),
        Stage::Fetching { bytes: 0 } => "it took the order, and was not done with it".to_owned(),
        Stage::Fetching { bytes } => format!("it stopped after {bytes} bytes"),
        Stage::Installed | Stage::Confirmed | Stage::Failed { .. } => {
            "it has the image and did not come back with it".to_owned()
        }
    }
}

fn settle(stage: &mut Stage, result: Result, version: &str) {
    let state = result.state.unwrap_or_default();
    let busy = result.error.as_deref() == Some(BUSY);
    *stage = if !result.ok && !busy {
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
        let terms = Terms { at_once, device_within: Duration::from_secs(600) };
        Campaign::new(signed(&[7; 5000], "1.4.0"), "c1".into(), &devices, terms)
    }

    const START: Duration = Duration::ZERO;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stage<'a>(campaign: &'a Campaign, device: &str) -> &'a Stage {
        &campaign.devices[device].stage
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
        let orders = campaign.due(START);
        assert_eq!(orders[0].topic, "devices/a/commands/ota");
        assert!(campaign.due(START).is_empty(), "told once");
        campaign.heard("devices/a/telemetry/results", &result(true, r#","id":"c1""#), START);
        for (offset, len) in [(0, 2048), (2048, 2048), (2048, 2048), (4096, 904)] {
            let part = campaign.heard("devices/a/telemetry/ota", &wanted("1.4.0", offset), START).unwrap();
            assert_eq!(part.topic, format!("devices/a/commands/ota/{offset}"));
            assert_eq!(part.payload.len(), len);
        }
        assert_eq!(campaign.bytes(), 5000);
        campaign.heard(
            "devices/a/telemetry/results",
            &result(true, r#","state":"installed, starting it""#),
            START,
        );
        assert!(!campaign.is_over(), "it has not come back yet");
        campaign.heard("devices/a/telemetry/results", &result(true, r#","state":"confirmed 1.3.0""#), START);
        assert!(!campaign.is_over(), "that is the old version");
        campaign.heard("devices/a/telemetry/results", &result(true, r#","state":"confirmed 1.4.0""#), START);
        assert_eq!(*stage(&campaign, "a"), Stage::Confirmed);
        assert!(campaign.is_over());
    }

    #[test]
    fn nothing_is_sent_to_who_was_not_told_or_asks_for_what_is_not_there() {
        let mut campaign = campaign(&["a", "b"], 1);
        campaign.due(START);
        let mut asks = |topic: &str, payload: &[u8]| campaign.heard(topic, payload, START);
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
        assert_eq!(campaign.due(START).len(), 1);
        assert_eq!(campaign.due(START), []);
        campaign.heard(
            "devices/a/telemetry/results",
            &result(false, r#","error":"not newer \u001b[2J""#),
            START,
        );
        let Stage::Failed { why } = stage(&campaign, "a") else { panic!("it refused") };
        assert!(why.starts_with("not newer") && !why.contains('\u{1b}'), "{why}");
        assert_eq!(campaign.due(START)[0].topic, "devices/b/commands/ota");
        campaign.give_up("after 1 h");
        assert!(campaign.is_over());
        assert!(matches!(stage(&campaign, "c"), Stage::Failed { why } if why.contains("turn")));
    }

    #[test]
    fn a_result_of_another_command_or_campaign_changes_nothing() {
        let mut campaign = campaign(&["a"], 1);
        campaign.due(START);
        campaign.heard("devices/a/telemetry/results", &result(false, r#","id":"c0","error":"old""#), START);
        campaign.heard("devices/a/telemetry/results", br#"{"command":"report","ok":false}"#, START);
        assert_eq!(*stage(&campaign, "a"), Stage::Told);
    }

    #[test]
    fn a_device_that_says_nothing_is_told_again_and_has_failed_when_its_own_time_is_over() {
        let mut campaign = campaign(&["a", "b"], 1);
        assert_eq!(campaign.due(START).len(), 1);
        assert_eq!(campaign.due(at(29)), []);
        assert_eq!(campaign.due(at(30))[0].topic, "devices/a/commands/ota");
        // It lives, and is told nothing while it does.
        campaign.heard("devices/a/telemetry/ota", &wanted("1.4.0", 0), at(55));
        assert_eq!(campaign.due(at(84)), []);
        campaign.heard(
            "devices/a/telemetry/results",
            &result(false, r#","id":"c1","error":"not now""#),
            at(84),
        );
        assert_eq!(campaign.due(at(113)), [], "busy is a word too");
        assert_eq!(*stage(&campaign, "a"), Stage::Fetching { bytes: 2048 });
        assert_eq!(campaign.due(at(599)).len(), 1);
        let orders = campaign.due(at(600));
        assert_eq!(orders[0].topic, "devices/b/commands/ota", "the next one's turn");
        let failed = &campaign.devices["a"];
        assert!(
            matches!(&failed.stage, Stage::Failed { why } if why.contains("2048 bytes (600 s)")),
            "{failed:?}"
        );
        assert_eq!((failed.seconds, failed.orders), (600, 3));
        assert_eq!(*stage(&campaign, "b"), Stage::Told, "the time of the campaign is not that of a device");
        assert_eq!(campaign.count(), (0, 1));
    }

    #[test]
    fn a_device_that_runs_no_older_version_is_asked_which_one() {
        let refused = r#","id":"c1","error":"image refused: not newer than what runs""#;
        for (runs, confirmed) in [("1.4.0", true), ("1.5.0", false)] {
            let mut campaign = campaign(&["a"], 1);
            campaign.due(START);
            let ask = campaign.heard("devices/a/telemetry/results", &result(false, refused), at(1)).unwrap();
            assert_eq!(
                (ask.topic.as_str(), &ask.payload[..]),
                ("devices/a/commands/report", &br#"{"id":"c1"}"#[..])
            );
            assert_eq!(*stage(&campaign, "a"), Stage::Told);
            let report = |id: &str| {
                format!(
                    r#"{{"device":"a","command":"report","id":"{id}","ok":true,"report":{{"firmware":"{runs}"}}}}"#
                )
            };
            campaign.heard("devices/a/telemetry/results", report("else").as_bytes(), at(2));
            assert_eq!(*stage(&campaign, "a"), Stage::Told, "somebody else asked");
            campaign.heard("devices/a/telemetry/results", report("c1").as_bytes(), at(2));
            assert!(campaign.is_over());
            assert_eq!(campaign.count(), (usize::from(confirmed), usize::from(!confirmed)), "{runs}");
        }
    }
}
