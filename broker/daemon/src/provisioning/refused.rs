//! Why a request is refused: what the device is told, and what the operator reads.

use std::fmt;
use std::net::IpAddr;

use signet_core::provisioning::{ErrorCode, Rejection};
use signet_registry::ca::{CsrError, IssueError, KeyFileError};
use signet_registry::template::EvaluateError;
use signet_registry::{Fault, RegistryError};

use super::hook::HookError;
use crate::store::{ExecuteError, StoreError};

/// A refusal.
#[derive(Debug)]
pub(super) struct Refused {
    /// For the device: a code, and fixed text.
    pub(super) rejection: Rejection,
    /// A short label from a closed set, for metrics.
    pub(super) label: &'static str,
    /// For the operator.
    pub(super) why: String,
    /// What an operator should look at: honest devices do not come into this.
    pub(super) alarm: Option<Alarm>,
    /// Whether it was the asker's own doing: not what the broker, the hook or the asker's neighbours could not do.
    pub(super) own_doing: bool,
}

/// Odd use of a claim, or of an authority whose unknown certificates are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Alarm {
    /// An ownership token was shown by another certificate than the one that it was given to.
    ForeignToken,
    /// A claim was used from outside of its networks.
    Network,
    /// A device was to be registered that the claim's list does not have.
    SerialNotListed,
    /// A thing was to be provisioned that exists, with another key.
    ExistingThing,
    /// Many requests were refused.
    Refusals,
    /// An authority has brought in as many devices as it may, or too many certificates of it wait to be activated.
    AuthoritySpent,
    /// More unknown certificates of an authority came than are registered in a second.
    AuthorityRate,
}

impl Alarm {
    /// A short label from a closed set, for metrics.
    pub(crate) const fn metric_label(self) -> &'static str {
        match self {
            Self::ForeignToken => "foreign_token",
            Self::Network => "network",
            Self::SerialNotListed => "serial_not_listed",
            Self::ExistingThing => "existing_thing",
            Self::Refusals => "refusals",
            Self::AuthoritySpent => "authority_spent",
            Self::AuthorityRate => "authority_rate",
        }
    }
}

impl Refused {
    fn new(rejection: Rejection, label: &'static str, why: impl fmt::Display) -> Self {
        let own_doing = matches!(rejection.code.status(), 400 | 403 | 409);
        Self { rejection, label, why: why.to_string(), alarm: None, own_doing }
    }

    fn alarming(mut self, alarm: Alarm) -> Self {
        self.alarm = Some(alarm);
        self
    }

    pub(super) fn payload(rejection: Rejection) -> Self {
        Self::new(rejection, "payload", rejection.message)
    }

    pub(super) fn not_served() -> Self {
        let rejection = ErrorCode::ServiceUnavailable.because("This broker issues no certificates.");
        Self::new(rejection, "not_served", "provisioning needs [registry] mode = \"on\" and [ca]")
    }

    pub(super) fn too_many_under_way() -> Self {
        let why = "[provisioning] requests-in-flight-max is reached, or a quarter of it by this one alone";
        Self::new(throttled(), "in_flight", why)
    }

    pub(super) fn too_many_tries() -> Self {
        let why = "the hook was asked about this ownership token often enough: the device has to begin anew";
        Self::new(throttled(), "hook_tries", why)
    }

    pub(super) fn too_fast(what: &'static str) -> Self {
        Self::new(throttled(), "rate", format_args!("[provisioning] {what} is passed"))
    }

    pub(super) fn unknown_too_fast() -> Self {
        let why = "[provisioning] just-in-time-per-authority-per-second is passed";
        Self::new(throttled(), "authority_rate", why).alarming(Alarm::AuthorityRate)
    }

    pub(super) fn late() -> Self {
        let rejection = ErrorCode::ServiceUnavailable.because("This took too long: begin again.");
        let why = "it was not done when the answer had to leave: the disk, the signer's key or the processor is too slow for what is asked";
        Self::new(rejection, "late", why)
    }

    /// Whether the same may be granted a moment later.
    pub(super) const fn is_for_now(&self) -> bool {
        matches!(self.rejection.code.status(), 429 | 503)
    }

    pub(super) fn network(address: IpAddr) -> Self {
        let why = format_args!("the claim may not be used from {address}");
        Self::new(denied(), "network", why).alarming(Alarm::Network)
    }

    pub(super) fn keys_not_allowed(device: bool) -> Self {
        if device {
            let text = "A device renews its certificate with create-from-csr: a private key is not sent.";
            return Self::new(ErrorCode::AccessDenied.because(text), "keys_for_device", text);
        }
        let text = "Keys are made by the device here: use create-from-csr.";
        let why = "neither the claim nor one of its templates allows that the broker makes private keys";
        Self::new(ErrorCode::AccessDenied.because(text), "keys_not_allowed", why)
    }

    pub(super) fn foreign_token() -> Self {
        Self::from(RegistryError::OwnershipToken).alarming(Alarm::ForeignToken)
    }

    pub(super) fn template_broken(name: &dyn fmt::Display) -> Self {
        let why = format_args!("the stored template {name} cannot be used any more: set it anew");
        Self::new(failed(), "template_broken", why)
    }

    pub(super) fn failed(label: &'static str, why: impl fmt::Display) -> Self {
        Self::new(failed(), label, why)
    }
}

const fn throttled() -> Rejection {
    ErrorCode::Throttling.because("Too many requests: try again later.")
}

const fn denied() -> Rejection {
    ErrorCode::AccessDenied.because("This may not be provisioned.")
}

const fn failed() -> Rejection {
    ErrorCode::InternalFailure.because("The broker failed.")
}

const fn bad_csr() -> Rejection {
    ErrorCode::InvalidCertificateSigningRequest.because("The certificate signing request is not accepted.")
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        let rejection = match (&error, error.fault()) {
            (RegistryError::OwnershipToken, _) => ErrorCode::InvalidCertificateOwnershipToken
                .because("The certificate ownership token is unknown, used, expired, or not yours."),
            (RegistryError::KeyOfCa(_), _) => bad_csr(),
            (RegistryError::ClaimSpent { what: "pending certificates", .. }, _) => throttled(),
            (RegistryError::ClaimSpent { .. } | RegistryError::CaSpent { .. }, _) | (_, Fault::Denied) => {
                denied()
            }
            (RegistryError::NoTemplate(_), _) => {
                ErrorCode::ResourceNotFound.because("There is no such template.")
            }
            (_, Fault::Request) => {
                ErrorCode::InvalidParameters.because("The parameters give no valid thing.")
            }
            (_, Fault::NotFound) => ErrorCode::ResourceNotFound.because("It does not exist."),
            (_, Fault::Conflict) => {
                ErrorCode::ResourceConflict.because("The thing exists and may not be provisioned again.")
            }
            (_, Fault::Exhausted | Fault::Unavailable) => {
                ErrorCode::ServiceUnavailable.because("This cannot be done now: try again later.")
            }
        };
        let alarm = match &error {
            RegistryError::SerialNotListed(_) => Some(Alarm::SerialNotListed),
            RegistryError::AlreadyProvisioned(_) | RegistryError::Awaited(_) | RegistryError::Barred(_) => {
                Some(Alarm::ExistingThing)
            }
            RegistryError::CaSpent { .. } => Some(Alarm::AuthoritySpent),
            _ => None,
        };
        Self { alarm, ..Self::new(rejection, error.metric_label(), &error) }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(_) => Self::new(throttled(), "store_busy", &error),
            _ => Self::new(failed(), "store", &error),
        }
    }
}

impl From<ExecuteError> for Refused {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Refused(refused) => refused.into(),
            ExecuteError::Store(store) => store.into(),
        }
    }
}

impl From<CsrError> for Refused {
    fn from(error: CsrError) -> Self {
        Self::new(bad_csr(), error.metric_label(), &error)
    }
}

impl From<IssueError> for Refused {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::AuthorityKey => Self::new(bad_csr(), error.metric_label(), &error),
            _ => Self::new(failed(), error.metric_label(), &error),
        }
    }
}

impl From<KeyFileError> for Refused {
    fn from(error: KeyFileError) -> Self {
        Self::failed("key", error)
    }
}

impl From<EvaluateError> for Refused {
    fn from(error: EvaluateError) -> Self {
        let text = match &error {
            EvaluateError::MissingParameter { .. } | EvaluateError::MissingSubject { .. } => {
                "A parameter that the template needs is missing."
            }
            EvaluateError::ThingName(_) => "The parameters give a name that no thing can have.",
            _ => "The parameters are not accepted by the template.",
        };
        Self::new(ErrorCode::InvalidParameters.because(text), error.metric_label(), &error)
    }
}

impl From<HookError> for Refused {
    fn from(error: HookError) -> Self {
        let rejection = ErrorCode::AccessDenied.because("Provisioning was denied.");
        let own_doing = matches!(error, HookError::Denied);
        Self { own_doing, ..Self::new(rejection, error.metric_label(), &error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_asker_did_is_its_own_doing() {
        let own = [
            Refused::foreign_token(),
            Refused::network(IpAddr::from([192, 0, 2, 1])),
            Refused::keys_not_allowed(false),
            HookError::Denied.into(),
            RegistryError::OwnershipToken.into(),
        ];
        assert!(own.iter().all(|refused| refused.own_doing), "{own:?}");
        let others = [
            Refused::too_many_under_way(),
            Refused::too_many_tries(),
            Refused::too_fast("requests-per-address-per-second"),
            Refused::not_served(),
            Refused::late(),
            Refused::template_broken(&"t"),
            Refused::failed("key", "it is gone"),
            HookError::Late.into(),
            HookError::Failed(String::new()).into(),
            HookError::Unreadable(String::new()).into(),
        ];
        assert!(others.iter().all(|refused| !refused.own_doing), "{others:?}");
    }
}
