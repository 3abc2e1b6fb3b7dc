//! The topics, written once. What comes in becomes a value here; nothing compares topic strings afterwards.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// In which form the payloads of provisioning are; the last level of its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// CBOR (RFC 8949).
    Cbor,
}

impl Format {
    const fn level(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }
}

/// Whether `name` can name a provisioning template: 1 to 36 letters, digits, `_` and `-`.
#[must_use]
pub fn is_template(name: &str) -> bool {
    (1..=36).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Where a certificate is asked for with a signing request.
#[must_use]
pub fn create(format: Format) -> String {
    format!("$aws/certificates/create-from-csr/{}", format.level())
}

/// Where a thing is registered by `template`.
#[must_use]
pub fn provision(template: &str, format: Format) -> String {
    format!("$aws/provisioning-templates/{template}/provision/{}", format.level())
}

/// The four topics on which answers come, in one SUBSCRIBE.
#[must_use]
pub fn answers(template: &str, format: Format) -> Vec<String> {
    let (create, provision) = (create(format), provision(template, format));
    [&create, &provision]
        .iter()
        .flat_map(|topic| [format!("{topic}/accepted"), format!("{topic}/rejected")])
        .collect()
}

/// Which answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The certificate.
    Created,
    /// No certificate.
    CreateRejected,
    /// The thing is registered and the certificate in force.
    Provisioned,
    /// It is not.
    ProvisionRejected,
}

impl Answer {
    /// Which answer `topic` is to a request by `template` in `format`; `None` for every other topic.
    #[must_use]
    pub fn of(topic: &str, template: &str, format: Format) -> Option<Self> {
        let rest = topic.strip_prefix("$aws/")?;
        let (rest, verdict) = rest.rsplit_once('/')?;
        let (operation, level) = rest.rsplit_once('/')?;
        if level != format.level() {
            return None;
        }
        let created = operation == "certificates/create-from-csr";
        let provisioned = operation
            .strip_prefix("provisioning-templates/")
            .and_then(|rest| rest.strip_suffix("/provision"))
            .is_some_and(|named| named == template);
        match verdict {
            "accepted" if created => Some(Self::Created),
            "rejected" if created => Some(Self::CreateRejected),
            "accepted" if provisioned => Some(Self::Provisioned),
            "rejected" if provisioned => Some(Self::ProvisionRejected),
            _ => None,
        }
    }
}

/// Where readings go.
#[must_use]
pub fn telemetry(device: &str) -> String {
    format!("devices/{device}/telemetry/environment")
}

/// Where the results of commands go. Below `telemetry`, which every shipped policy lets a device write.
#[must_use]
pub fn results(device: &str) -> String {
    format!("devices/{device}/telemetry/results")
}

/// Where the device asks for parts of a firmware image.
#[must_use]
pub fn image_wanted(device: &str) -> String {
    format!("devices/{device}/telemetry/ota")
}

/// `online` and, as the last will, `offline`; retained.
#[must_use]
pub fn status(device: &str) -> String {
    format!("devices/{device}/status")
}

/// The filter of the commands.
#[must_use]
pub fn commands(device: &str) -> String {
    format!("devices/{device}/commands/#")
}

/// Where the broker tells the device to rotate.
#[must_use]
pub fn rotate(device: &str) -> String {
    format!("devices/{device}/certs/rotate")
}

/// What a message to an enrolled device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToDevice<'a> {
    /// A command by its name.
    Command(&'a str),
    /// A part of a firmware image, from this offset.
    ImagePart(u32),
    /// The broker wants the certificate rotated.
    Rotate,
}

impl<'a> ToDevice<'a> {
    /// What `topic` means for `device`; `None` when it is not for it.
    #[must_use]
    pub fn of(topic: &'a str, device: &str) -> Option<Self> {
        let rest = topic.strip_prefix("devices/")?.strip_prefix(device)?.strip_prefix('/')?;
        if rest == "certs/rotate" {
            return Some(Self::Rotate);
        }
        let command = rest.strip_prefix("commands/")?;
        match command.strip_prefix("ota/") {
            Some(offset) => offset.parse().ok().map(Self::ImagePart),
            None => Some(Self::Command(command)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_answers_to_ones_own_request_are_answers() {
        let of = |topic| Answer::of(topic, "fleet", Format::Json);
        assert_eq!(of("$aws/certificates/create-from-csr/json/accepted"), Some(Answer::Created));
        assert_eq!(of("$aws/certificates/create-from-csr/json/rejected"), Some(Answer::CreateRejected));
        assert_eq!(
            of("$aws/provisioning-templates/fleet/provision/json/accepted"),
            Some(Answer::Provisioned)
        );
        for other in [
            "$aws/certificates/create-from-csr/cbor/accepted",
            "$aws/certificates/create-from-csr/json",
            "$aws/certificates/create-from-csr/json/accepted/x",
            "$aws/certificates/create/json/accepted",
            "$aws/provisioning-templates/fleet2/provision/json/accepted",
            "$aws/provisioning-templates/flee/provision/json/accepted",
            "$aws/provisioning-templates//provision/json/accepted",
            "aws/certificates/create-from-csr/json/accepted",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        for topic in answers("fleet", Format::Cbor) {
            assert!(Answer::of(&topic, "fleet", Format::Cbor).is_some(), "{topic}");
        }
    }

    #[test]
    fn a_message_for_another_device_means_nothing() {
        assert_eq!(ToDevice::of("devices/a/commands/report", "a"), Some(ToDevice::Command("report")));
        assert_eq!(ToDevice::of("devices/a/commands/ota/4096", "a"), Some(ToDevice::ImagePart(4096)));
        assert_eq!(ToDevice::of("devices/a/certs/rotate", "a"), Some(ToDevice::Rotate));
        for other in [
            "devices/b/commands/report",
            "devices/ab/commands/report",
            "devices/a/commands",
            "devices/a/commands/ota/x",
            "devices/a/commands/ota/99999999999",
            "devices/a/certs/rotate/x",
            "other/a/commands/report",
        ] {
            assert_eq!(ToDevice::of(other, "a"), None, "{other}");
        }
    }
}
