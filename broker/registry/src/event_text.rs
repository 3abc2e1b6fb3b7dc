//! Events in the words of the audit trail.

use std::fmt;

use signet_identity::PrincipalKey;

use crate::event::{Actor, Attempt, Cause, Change, DeletedBecause, Event, Topic};
use crate::{CaSettings, Source, Status};

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.at, self.actor, self.change)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker => f.write_str("broker"),
            Self::Local(who) => write!(f, "local {who}"),
            Self::Principal { role, name, .. } => write!(f, "{role} {name}"),
            Self::Token(token) => write!(f, "token {}", Short(token)),
            Self::Unknown(from) => write!(f, "unknown at {from}"),
        }
    }
}

/// The first 16 digits of an id: enough to find it by, short enough to read.
struct Short<'a, T>(&'a T);

impl<T: fmt::Display> fmt::Display for Short<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.get(..16).unwrap_or(&text))
    }
}

/// Whose a certificate is.
struct Of<'a>(Option<&'a PrincipalKey>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(" of nobody yet"),
            Some(holder) => write!(f, " of {} {}", holder.role, holder.name),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThingAdded { .. }
            | Self::ThingChanged { .. }
            | Self::ThingDeleted { .. }
            | Self::ThingApproved { .. }
            | Self::ThingQuarantined { .. }
            | Self::ThingReleased { .. } => thing(self, f),
            Self::CertificateAdded { .. }
            | Self::CertificateBound { .. }
            | Self::CertificateActivated { .. }
            | Self::CertificateSuspended { .. }
            | Self::CertificateRevoked { .. }
            | Self::CertificateDeleted { .. }
            | Self::SerialRevoked { .. }
            | Self::RotationStarted { .. }
            | Self::RotationCompleted { .. }
            | Self::RotationAbandoned { .. } => certificate(self, f),
            Self::CaAdded { .. }
            | Self::CaChanged { .. }
            | Self::CaRevoked { .. }
            | Self::CaUsed { .. }
            | Self::CaDeleted { .. } => authority(self, f),
            Self::ApprovalAsked { .. } | Self::ApprovalDecided { .. } | Self::ApprovalEnded { .. } => {
                approval(self, f)
            }
            _ => rest(self, f),
        }
    }
}

fn thing(change: &Change, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match change {
        Change::ThingAdded { thing } => write!(f, "thing {} added", thing.name),
        Change::ThingChanged { thing, version } => {
            write!(f, "thing {} changed to version {version}", thing.name)
        }
        Change::ThingDeleted { thing } => write!(f, "thing {thing} deleted"),
        Change::ThingApproved { thing, until: Some(until) } => {
            write!(f, "thing {thing} may be provisioned again until {until}")
        }
        Change::ThingApproved { thing, until: None } => {
            write!(f, "thing {thing} may not be provisioned again")
        }
        Change::ThingQuarantined { thing, why } => write!(f, "thing {thing} is in quarantine: {why}"),
        Change::ThingReleased { thing } => write!(f, "thing {thing} is out of quarantine"),
        _ => Ok(()),
    }
}

fn certificate(change: &Change, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match change {
        Change::CertificateAdded { facts, source, status, holder, .. } => {
            let how = match source {
                Source::Own => "issued",
                Source::Outside => "registered",
            };
            let whose = Of(holder.as_ref());
            write!(
                f,
                "certificate {} (serial {}){whose} {how}, {}",
                Short(&facts.id),
                facts.serial,
                status.kind()
            )?;
            match status {
                Status::Pending(pending) => match pending.until {
                    Some(until) => write!(f, " until {until}"),
                    None => f.write_str(" until an operator decides"),
                },
                _ => Ok(()),
            }
        }
        Change::CertificateBound { certificate, holder } => {
            write!(f, "certificate {} bound to {} {}", Short(certificate), holder.role, holder.name)
        }
        Change::CertificateActivated { certificate, cause } => {
            write!(f, "certificate {} activated{cause}", Short(certificate))
        }
        Change::CertificateSuspended { certificate, cause } => {
            write!(f, "certificate {} suspended{cause}", Short(certificate))
        }
        Change::CertificateRevoked { certificate, reason, cause } => {
            write!(f, "certificate {} revoked ({reason}){cause}", Short(certificate))
        }
        Change::CertificateDeleted { certificate, holder, because } => {
            write!(f, "certificate {}{} deleted: {because}", Short(certificate), Of(holder.as_ref()))
        }
        Change::SerialRevoked { issuer, serial, reason } => {
            write!(
                f,
                "serial {serial} of issuer key {} revoked ({reason}), its certificate is unknown",
                Short(issuer)
            )
        }
        Change::RotationStarted { old, new } => {
            write!(f, "certificate {} is to be replaced by {}", Short(old), Short(new))
        }
        Change::RotationCompleted { old, new, retire_at } => {
            write!(f, "certificate {} is in use, {} retires at {retire_at}", Short(new), Short(old))
        }
        Change::RotationAbandoned { old, new } => {
            write!(f, "certificate {} stays, {} is not in force", Short(old), Short(new))
        }
        _ => Ok(()),
    }
}

fn authority(change: &Change, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match change {
        Change::CaAdded { ca } => {
            let whose = match ca.source {
                Source::Own => "own",
                Source::Outside => "outside",
            };
            write!(f, "{whose} authority {} ({}) added, {}", Short(&ca.id), ca.subject, ca.settings)
        }
        Change::CaChanged { ca, settings } => write!(f, "authority {} changed, {settings}", Short(ca)),
        Change::CaRevoked { ca, reason } => {
            write!(f, "authority {} revoked ({reason}) with every certificate of it", Short(ca))
        }
        Change::CaUsed { ca, thing } => write!(f, "authority {} brought in {thing}", Short(ca)),
        Change::CaDeleted { ca } => write!(f, "authority {} removed", Short(ca)),
        _ => Ok(()),
    }
}

fn approval(change: &Change, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match change {
        Change::ApprovalAsked { request, until } => write!(
            f,
            "enrolment {} of {} from {} waits for approval until {until}, public key {}",
            Short(&request.id),
            request.device,
            request.address,
            request.key
        ),
        Change::ApprovalDecided { request, device, approved, until } => {
            let word = if *approved { "approved" } else { "rejected" };
            write!(f, "enrolment {} of {device} {word} until {until}", Short(request))
        }
        Change::ApprovalEnded { request, device } => {
            write!(f, "enrolment {} of {device} waits no more", Short(request))
        }
        _ => Ok(()),
    }
}

fn rest(change: &Change, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match change {
        Change::ClaimAdded { claim } => write!(f, "claim {} added", claim.name),
        Change::ClaimChanged { claim } => write!(f, "claim {} changed", claim.name),
        Change::ClaimSuspended { claim, suspended: true } => write!(f, "claim {claim} suspended"),
        Change::ClaimSuspended { claim, suspended: false } => write!(f, "claim {claim} works again"),
        Change::ClaimSerialsAdded { claim, serials } => {
            write!(f, "{} serial numbers added to claim {claim}", serials.len())
        }
        Change::ClaimUsed { claim, thing } => write!(f, "claim {claim} brought in {thing}"),
        Change::TokenAdded { token } => {
            write!(f, "token {} for {} added, until {}", Short(&token.hash), token.thing.name, token.until)
        }
        Change::TokenUsed { token, certificate } => {
            write!(f, "token {} used for certificate {}", Short(token), Short(certificate))
        }
        Change::TokenDeleted { token } => write!(f, "token {} deleted", Short(token)),
        Change::TemplateSet { template, version } => {
            write!(f, "template {} set, version {version}", template.name)
        }
        Change::TemplateDeleted { template } => write!(f, "template {template} deleted"),
        Change::ClockAccepted { was } => write!(f, "the clock is accepted, although it had shown {was}"),
        Change::Refused { attempt, why, unrecorded: 0 } => write!(f, "refused {attempt}: {why}"),
        Change::Refused { attempt, why, unrecorded } => {
            write!(f, "refused {attempt}: {why} (and {unrecorded} alike, not recorded)")
        }
        Change::Noted { topic, text } => write!(f, "{topic}: {text}"),
        _ => Ok(()),
    }
}

impl fmt::Display for CaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connect = if self.connect { "may connect" } else { "may not connect" };
        write!(f, "{} {connect}, unknown ones {}, names", self.role, self.unknown.as_str())?;
        if !self.registers {
            f.write_str(" (registers none)")?;
        }
        self.names.iter().try_for_each(|pattern| write!(f, " {pattern}"))?;
        if let Some(max) = self.devices_max {
            write!(f, ", brings in {max} at most")?;
        }
        f.write_str(if self.joins_others { ", joins things of others" } else { "" })
    }
}

impl fmt::Display for Cause {
    /// Begins with a space, and is empty for what was asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "",
            Self::ThingRegistered => " because its thing was registered",
            Self::Rotation => " because a newer one is in force",
            Self::Expired => " because it is expired",
            Self::ThingDeleted => " because its thing was deleted",
        })
    }
}

impl fmt::Display for DeletedBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverActivated => "it was never activated",
            Self::LongExpired => "it has been expired for long",
            Self::Asked => "it was asked for",
            Self::Replaced => "it was replaced, and its number stays revoked",
        })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remark => "remark",
            Self::Policy => "policy",
            Self::Reload => "reload",
            Self::Crl => "revocation list",
            Self::Backup => "backup",
            Self::Command => "command",
            Self::Key => "key",
            Self::Alarm => "alarm",
        })
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Issue => "a certificate",
            Self::RegisterThing => "to register a thing",
            Self::Admit => "to admit an unknown certificate",
            Self::Token => "the use of a token",
            Self::Renew => "to renew a certificate",
            Self::Command => "a command",
        })
    }
}
