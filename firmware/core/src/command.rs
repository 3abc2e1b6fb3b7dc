//! Commands and their results. What is not a good command gets an error result and changes nothing.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The longest payload of a command that is read, in bytes.
pub const COMMAND_BYTES_MAX: usize = 2048;
/// The longest `id` of a command, in bytes. It comes back in the result.
pub const ID_BYTES_MAX: usize = 64;
/// The bounds of the reporting interval, in seconds.
pub const INTERVAL_SECS: core::ops::RangeInclusive<u32> = 5..=86_400;
/// The bounds of the time that the device blinks, in seconds.
pub const IDENTIFY_SECS: core::ops::RangeInclusive<u16> = 1..=600;

/// What can be asked of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Report every so many seconds.
    Interval(u32),
    /// Start again.
    Reboot,
    /// Rotate the certificate.
    Rotate,
    /// Blink for so many seconds.
    Identify(u16),
    /// Say how you are.
    Report,
    /// Take the image of this signed manifest.
    Update(crate::ota::SignedManifest),
}

/// Why a command is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandError {
    /// There is no command of this name.
    Unknown,
    /// More than [`COMMAND_BYTES_MAX`], or an `id` of more than [`ID_BYTES_MAX`].
    TooLong,
    /// Not JSON of the shape of this command.
    Malformed,
    /// A number out of its bounds.
    OutOfRange,
    /// It cannot be done in this state, for example a second rotation.
    Busy,
    /// The image is refused.
    Image(crate::ota::Refused),
}

impl CommandError {
    /// The text in the result.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown command; known are interval, reboot, rotate, identify, report, ota",
            Self::TooLong => "too long",
            Self::Malformed => "not JSON of the shape that this command has",
            Self::OutOfRange => "out of range",
            Self::Busy => "not now",
            Self::Image(refused) => refused.as_str(),
        }
    }
}

/// A command as it came: what it asks and the `id` that its sender gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The sender's `id`.
    pub id: Option<String>,
    /// The command, or why it is none.
    pub command: Result<Command, CommandError>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    id: Option<String>,
    seconds: Option<u64>,
    manifest: Option<String>,
    signature: Option<String>,
}

/// Reads the payload of the command `name`: a JSON object with an `id` if its sender wants one in the result, and what the
/// command needs; or nothing; or, for `interval` and `identify`, a bare number of seconds.
#[must_use]
pub fn read(name: &str, payload: &[u8]) -> Received {
    if payload.len() > COMMAND_BYTES_MAX {
        return Received { id: None, command: Err(CommandError::TooLong) };
    }
    let empty = Fields { id: None, seconds: None, manifest: None, signature: None };
    let fields = match payload.trim_ascii() {
        [] => Ok(empty),
        number if number.iter().all(u8::is_ascii_digit) => {
            serde_json::from_slice(number).map(|seconds| Fields { seconds: Some(seconds), ..empty })
        }
        object => serde_json::from_slice::<Fields>(object),
    };
    match fields {
        Err(_) if !is_known(name) => Received { id: None, command: Err(CommandError::Unknown) },
        Err(_) => Received { id: None, command: Err(CommandError::Malformed) },
        Ok(Fields { id: Some(id), .. }) if id.len() > ID_BYTES_MAX => {
            Received { id: None, command: Err(CommandError::TooLong) }
        }
        Ok(fields) => Received { id: fields.id.clone(), command: understand(name, &fields) },
    }
}

fn is_known(name: &str) -> bool {
    ["interval", "reboot", "rotate", "identify", "report", "ota"].contains(&name)
}

fn understand(name: &str, fields: &Fields) -> Result<Command, CommandError> {
    let seconds = |range_holds: &dyn Fn(u64) -> bool| match fields.seconds {
        None => Err(CommandError::Malformed),
        Some(seconds) if range_holds(seconds) => Ok(seconds),
        Some(_) => Err(CommandError::OutOfRange),
    };
    let signed = match (&fields.manifest, &fields.signature) {
        (None, None) => None,
        (Some(manifest), Some(signature)) if name == "ota" && fields.seconds.is_none() => {
            Some((manifest, signature))
        }
        _ => return Err(if is_known(name) { CommandError::Malformed } else { CommandError::Unknown }),
    };
    let plain = |command| if fields.seconds.is_none() { Ok(command) } else { Err(CommandError::Malformed) };
    match name {
        "interval" => {
            let holds = |s| u32::try_from(s).is_ok_and(|s| INTERVAL_SECS.contains(&s));
            seconds(&holds).map(|s| Command::Interval(s as u32))
        }
        "identify" if fields.seconds.is_none() => Ok(Command::Identify(10)),
        "identify" => {
            let holds = |s| u16::try_from(s).is_ok_and(|s| IDENTIFY_SECS.contains(&s));
            seconds(&holds).map(|s| Command::Identify(s as u16))
        }
        "reboot" => plain(Command::Reboot),
        "rotate" => plain(Command::Rotate),
        "report" => plain(Command::Report),
        "ota" => {
            let (manifest, signature) = signed.ok_or(CommandError::Malformed)?;
            crate::ota::SignedManifest::read(manifest, signature)
                .map(Command::Update)
                .ok_or(CommandError::Malformed)
        }
        _ => Err(CommandError::Unknown),
    }
}

/// The result of a command, as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandResult<'a> {
    /// The device.
    pub device: &'a str,
    /// The command's name, as it stood in the topic.
    pub command: &'a str,
    /// The sender's `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// Whether it is done.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    /// For `report`: how the device is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report<'a>>,
}

impl CommandResult<'_> {
    /// The payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How the device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report<'a> {
    /// The firmware's version.
    pub firmware: &'a str,
    /// The chip.
    pub chip: &'a str,
    /// Seconds since it started.
    pub uptime: u64,
    /// The id of the certificate in use.
    pub certificate: &'a str,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: u64,
    /// When it will be renewed, in seconds since 1970.
    pub renewal: u64,
    /// The slot in use, `a` or `b`.
    pub slot: &'a str,
    /// The reporting interval in seconds.
    pub interval: u32,
    /// Readings that wait.
    pub queued: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &str, payload: &str) -> Result<Command, CommandError> {
        read(name, payload.as_bytes()).command
    }

    #[test]
    fn good_commands_are_understood() {
        assert_eq!(command("interval", "30"), Ok(Command::Interval(30)));
        assert_eq!(command("interval", r#"{"seconds": 86400}"#), Ok(Command::Interval(86_400)));
        assert_eq!(command("reboot", ""), Ok(Command::Reboot));
        assert_eq!(command("rotate", "{}"), Ok(Command::Rotate));
        assert_eq!(command("identify", ""), Ok(Command::Identify(10)));
        assert_eq!(command("identify", "600"), Ok(Command::Identify(600)));
        let received = read("report", br#"{"id":"a1"}"#);
        assert_eq!((received.id.as_deref(), received.command), (Some("a1"), Ok(Command::Report)));
    }

    #[test]
    fn bad_commands_are_errors() {
        use CommandError::{Malformed, OutOfRange, TooLong, Unknown};
        for (name, payload, error) in [
            ("interval", "", Malformed),
            ("interval", "4", OutOfRange),
            ("interval", "86401", OutOfRange),
            ("interval", "99999999999999999999999", Malformed),
            ("interval", "4294967301", OutOfRange),
            ("interval", "-5", Malformed),
            ("interval", "30.5", Malformed),
            ("interval", r#""30""#, Malformed),
            ("interval", r#"{"seconds":30,"seconds":40}"#, Malformed),
            ("interval", r#"{"seconds":30"#, Malformed),
            ("interval", r#"{"secs":30}"#, Malformed),
            ("identify", "0", OutOfRange),
            ("identify", "65537", OutOfRange),
            ("reboot", "1", Malformed),
            ("reboot", "now", Malformed),
            ("report", "[]", Malformed),
            ("report", r#"{"id":7}"#, Malformed),
            ("ota", "{}", Malformed),
            ("ota", r#"{"manifest":"x"}"#, Malformed),
            ("report", r#"{"manifest":"x","signature":"y"}"#, Malformed),
            ("format-disk", "", Unknown),
            ("format-disk", "junk", Unknown),
            ("interval/x", "30", Unknown),
            ("", "", Unknown),
        ] {
            assert_eq!(command(name, payload), Err(error), "{name} {payload}");
        }
        let long = alloc::format!(r#"{{"id":"{}"}}"#, "x".repeat(ID_BYTES_MAX + 1));
        assert_eq!(command("report", &long), Err(TooLong));
        assert_eq!(command("report", &" ".repeat(COMMAND_BYTES_MAX + 1)), Err(TooLong));
        assert_eq!(read("report", &[0xff, 0xfe, 0x00]).command, Err(Malformed));
    }

    #[test]
    fn a_nested_payload_does_not_exhaust_the_stack() {
        assert_eq!(command("report", &"[".repeat(COMMAND_BYTES_MAX)), Err(CommandError::Malformed));
        let nested = alloc::format!(r#"{{"id":{}1"#, r#"{"a":"#.repeat(300));
        assert_eq!(command("report", &nested), Err(CommandError::Malformed));
    }
}
