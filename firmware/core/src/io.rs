//! What goes into the device and what comes out of it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::enrol::Rejection;
use crate::https::{Answer, Ask};
use crate::identity::CertificateFault;
use crate::slots::Slot;
use crate::store::{StoreFault, StoreState};
use crate::telemetry::Reading;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the device started. Never goes back.
    pub mono: u64,
    /// Seconds since 1970, when somebody has set the clock.
    pub wall: Option<u64>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// Time passed, or the clock was set.
    Tick,
    /// The broker accepted the connection that [`Action::Connect`] asked for: CONNACK with success came. A finished handshake is
    /// not enough: in TLS 1.3 the device's side of it succeeds before the broker has judged the certificate.
    Connected,
    /// The connection could not be made, or ended.
    Ended(Failure),
    /// SUBACK: for each filter whether it was granted.
    Subscribed {
        /// The number that [`Action::Subscribe`] gave.
        id: u32,
        /// One for each filter, in their order.
        granted: Vec<bool>,
    },
    /// PUBACK.
    Acknowledged {
        /// The number that [`Publish`] gave.
        id: u32,
        /// Whether the broker took the message.
        accepted: bool,
    },
    /// A message came.
    Message(Message<'a>),
    /// The server that [`Action::Ask`] named answers.
    Answered(Answer<'a>),
    /// The sensor was read, or could not be.
    Sampled(Option<Reading>),
    /// A person asks for a rotation, by a button or the console.
    RotateNow,
}

/// A message from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Whether it was kept from before the subscription. Answers and commands never are: such a message is stale.
    pub retained: bool,
}

/// Why there is no connection (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No address, no route, no TCP connection, or no answer in time: nothing is said about any credential.
    Unreachable,
    /// The server's certificate does not verify: its root, its name, or its validity by the device's clock.
    ServerUntrusted,
    /// The broker refused this device's certificate.
    Refused(Refusal),
    /// The broker has no room or no time now.
    Busy,
    /// The connection broke.
    Lost,
}

/// How the broker refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// With a TLS alert (RFC 8446, section 6.2) of this number.
    Alert(u8),
    /// With a TLS alert; the TLS library does not say which.
    SomeAlert,
    /// With this CONNACK reason code.
    ConnAck(u8),
    /// It was not even asked: the TLS library cannot read the certificate or its key.
    Unreadable,
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Connect; an older connection is to be dropped.
    Connect(Connect),
    /// Subscribe at QoS 1.
    Subscribe {
        /// Comes back in [`Input::Subscribed`].
        id: u32,
        /// The filters, in one packet.
        filters: Vec<String>,
    },
    /// Publish at QoS 1.
    Publish(Publish),
    /// Ask a server over HTTPS; an older connection is to be dropped. [`Input::Answered`] follows, up to [`Answer::End`], or
    /// [`Input::Ended`].
    Ask(Ask),
    /// Send DISCONNECT and close. No [`Input::Ended`] follows.
    Disconnect,
    /// Ask for the time of day (SNTP).
    SetClock,
    /// Read the sensor and answer with [`Input::Sampled`].
    Sample,
    /// Blink for so many seconds.
    Identify(u16),
    /// Start again.
    Reboot(RebootReason),
    /// For the log, the console and the LED.
    Event(Event),
}

/// With what to connect.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// The credential's place.
    pub rung: Rung,
    /// The certificate (DER) to show.
    pub certificate: Vec<u8>,
    /// The private key for the TLS library.
    pub key: Zeroizing<Vec<u8>>,
    /// The MQTT client id.
    pub client_id: String,
    /// The last will; a claim has none.
    pub will: Option<LastWill>,
    /// Keep alive in seconds.
    pub keep_alive_secs: u16,
    /// How long TCP, TLS and CONNACK may take together, in milliseconds.
    pub timeout_ms: u32,
}

/// What the broker says when the device is gone: retained, QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWill {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: &'static str,
}

/// A message to publish at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Comes back in [`Input::Acknowledged`].
    pub id: u32,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// A credential's place in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// One of the two slots.
    Own(Slot),
    /// The claim.
    Claim,
    /// The one-time token.
    Token,
}

/// Why the device starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebootReason {
    /// A command.
    Commanded,
    /// A new image.
    NewImage,
    /// The new image did not work, and the old one boots.
    Reverted,
}

/// What a person or a dashboard may want to know. [`Event::is_alarm`] picks those that want somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// In what state the store was found.
    Store(StoreState),
    /// The store failed.
    StoreFault(StoreFault),
    /// A slot holds something that is not a credential of this chip.
    SlotUnusable(Slot),
    /// There is no time of day that can be believed; no connection is tried before there is.
    ClockUnknown,
    /// The server's certificate does not verify.
    ServerUntrusted,
    /// A credential was refused.
    Refused(Rung, Refusal),
    /// Connected.
    Online(Rung),
    /// Not connected any more.
    Offline(Failure),
    /// An answer of provisioning is not taken, and nothing changed.
    AnswerRefused(AnswerFault),
    /// The broker rejected a request of provisioning.
    Rejected(Rejection),
    /// No answer came in time, in all tries.
    NoAnswer,
    /// The broker does not let the device subscribe to the answers.
    AnswersNotGranted,
    /// A credential was received and stored; it is tried next.
    CandidateStored(Slot),
    /// The device is enrolled: the broker accepted its own certificate for the first time.
    Enrolled {
        /// Its name.
        thing: String,
    },
    /// A rotation is complete.
    Rotated(Slot),
    /// A rotation began.
    RotationStarted,
    /// A rotation was given up and will be tried again; the device goes on with what it has.
    RotationAborted,
    /// The candidate did not work, and the device fell back to what it had.
    FellBack(Slot),
    /// The old credential was erased at the end of its grace.
    OldErased(Slot),
    /// No credential works. The device keeps trying, slowly.
    ProvisioningError(ProvisioningError),
    /// Readings were dropped because the queue was full.
    ReadingsDropped(u32),
    /// A publish was refused by the broker.
    PublishRefused,
    /// The broker does not let the device hear its commands.
    CommandsNotGranted,
    /// The sensor could not be read.
    SensorFault,
    /// How an update goes.
    Update(crate::ota::Outcome),
    /// A key could not be made or used.
    KeyFault(crate::platform::SignerError),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProvisioningError(error) => write!(f, "no credential works: {error}"),
            Self::StoreFault(fault) => write!(f, "{fault}"),
            Self::KeyFault(fault) => write!(f, "{fault}"),
            event => write!(f, "{event:?}"),
        }
    }
}

impl Event {
    /// Whether somebody should look at this device.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        match self {
            Self::Store(StoreState::Foreign | StoreState::Corrupt | StoreState::Worn)
            | Self::StoreFault(_)
            | Self::SlotUnusable(_)
            | Self::ProvisioningError(_)
            | Self::FellBack(_)
            | Self::ServerUntrusted
            | Self::Update(crate::ota::Outcome::Stuck)
            | Self::KeyFault(_) => true,
            // That a thing of the name exists may be an answer that got lost, and more often is somebody's mistake.
            Self::Rejected(rejection) => !rejection.is_transient() || rejection.status_code == 409,
            _ => false,
        }
    }
}

/// Why nothing works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisioningError {
    /// Every credential in the slots was refused and there is no claim.
    NoClaim,
    /// The claim was refused.
    ClaimRefused,
    /// The token was refused.
    TokenRefused,
    /// The flash region of the credentials cannot be written: nothing could be kept.
    StoreUnusable,
    /// The flash region of the credentials holds what this firmware does not understand. It is left as it is.
    StoreForeign,
    /// The factory data is missing or unreadable: no serial number.
    NoFactoryData,
}

impl fmt::Display for ProvisioningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoClaim => {
                "every own credential was refused and there is no claim; write a new claim to the device"
            }
            Self::ClaimRefused => {
                "the claim was refused; see the broker's `signet tls failures` and its audit trail"
            }
            Self::TokenRefused => {
                "the token was refused: unknown, used or expired; make a new one with `signet token create` and write it to the device"
            }
            Self::StoreForeign => {
                "the flash region of the credentials holds what this firmware does not understand, and is left as it is; save it if it is worth something, then erase the region"
            }
            Self::StoreUnusable => {
                "the flash region of the credentials cannot be written; replace the device"
            }
            Self::NoFactoryData => "the factory partition has no serial number; flash the factory data",
        })
    }
}

/// Why an answer of provisioning is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFault {
    /// Nothing was asked, or something else, or it was answered already.
    NotAwaited,
    /// It was retained: it is an answer to somebody's question of long ago.
    Stale,
    /// Not the payload that the contract says.
    Payload,
    /// The certificate is not taken.
    Certificate(CertificateFault),
    /// The name cannot be a name, or is not ours.
    Name,
}
