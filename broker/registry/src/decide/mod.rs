//! Deciding commands. Everything here reads the registry and gives events or a refusal.

mod approvals;
mod cas;
mod claims;
mod enrol;
mod enter;
mod rules;
mod status;
mod things;

use signet_identity::{CertificateId, PrincipalKey, Role};

use crate::command::Command;
use crate::event::{Actor, Change, Event};
use crate::{KeyHash, Registry, RegistryError, TokenHash, Wall};

/// What a certificate is to be signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueFor<'a> {
    /// A holder that an operator names.
    Holder(&'a PrincipalKey),
    /// An enrolment, or a rotation in two steps, that the owner of this certificate asks for.
    Enrolment(&'a CertificateId),
    /// The renewal of this certificate in one step.
    Renewal(&'a CertificateId),
    /// The holder of a one-time token.
    Token {
        /// The hash of the secret that was shown.
        token: &'a TokenHash,
        /// As in [`Command::UseToken`].
        never_connected: &'a [CertificateId],
    },
}

/// The result of most decisions.
type Decided = Result<(), RegistryError>;

/// One decision in the making: the registry that it is made against, and what will happen.
struct Draft<'a> {
    registry: &'a Registry,
    now: Wall,
    changes: Vec<Change>,
}

impl Draft<'_> {
    fn push(&mut self, change: Change) {
        self.changes.push(change);
    }
}

impl Registry {
    /// Decides `command`. Nothing changes; the events say what will, once they are stored and applied.
    ///
    /// No events mean that there is nothing to do: the registry is as the command wants it, or no deadline has passed.
    /// Whether `actor` may give such a command is the surface's to judge, except where a certificate or a token is what
    /// gives the right; those are named in the command.
    ///
    /// # Errors
    /// [`RegistryError`] with the first reason why not. The caller records it with [`Event::refused`] when somebody was
    /// refused a certificate.
    pub fn decide(&self, command: Command, actor: &Actor, now: Wall) -> Result<Vec<Event>, RegistryError> {
        let mut draft = Draft { registry: self, now, changes: Vec::new() };
        draft.decide(command)?;
        let event = |change| Event { at: now, actor: actor.clone(), change };
        Ok(draft.changes.into_iter().map(event).collect())
    }

    /// Whether a certificate for `public_key` may be signed now, so that no key signs what [`decide`](Self::decide)
    /// would refuse. The command that brings the certificate in asks all of this again.
    ///
    /// # Errors
    /// [`RegistryError`] with the first reason why not.
    pub fn may_issue(&self, to: IssueFor<'_>, public_key: &KeyHash, now: Wall) -> Result<(), RegistryError> {
        let mut draft = Draft { registry: self, now, changes: Vec::new() };
        draft.clock()?;
        match to {
            IssueFor::Holder(holder) => {
                draft.key(public_key, Some(holder))?;
                draft.room(holder, 1, |_| false)
            }
            IssueFor::Enrolment(asker) => {
                let holder = draft.may_enrol(asker, public_key)?.holder;
                if holder.role == Role::Claim {
                    return Ok(());
                }
                draft.room(&holder, 1, |other| other.id() != asker)
            }
            IssueFor::Renewal(asker) => {
                let holder = draft.renewing(asker)?;
                draft.key(public_key, Some(&holder))?;
                draft.room(&holder, 1, |other| other.id() != asker)
            }
            IssueFor::Token { token, never_connected } => {
                let holder = draft.token_holder(token)?;
                draft.key(public_key, Some(&holder))?;
                draft.room_by_token(&holder, never_connected)
            }
        }
    }
}

impl Draft<'_> {
    fn decide(&mut self, command: Command) -> Decided {
        match command {
            Command::AddThing(thing) => self.add_thing(thing),
            Command::UpdateThing { thing, version } => self.update_thing(thing, version),
            Command::DeleteThing(name) => self.delete_thing(name),
            Command::ApproveThing { thing, until } => self.approve_thing(thing, until),
            Command::Quarantine { thing, why } => self.quarantine(thing, why),
            Command::Release(thing) => self.release(thing),

            Command::RegisterCertificate { certificate, holder, enter } => {
                self.register_certificate(certificate, holder, enter)
            }
            Command::Issue { certificate, holder } => self.issue(certificate, holder),
            Command::BindCertificate { certificate, holder } => self.bind_certificate(&certificate, &holder),
            Command::Activate(selector) => self.activate(&selector),
            Command::Suspend(selector) => self.suspend(&selector),
            Command::Revoke { selector, reason } => self.revoke(&selector, reason),
            Command::DeleteCertificate(certificate) => self.delete_certificate(&certificate),
            Command::ExpirePending { at_most } => self.expire_pending(at_most),
            Command::PurgeExpired { before, at_most } => self.purge_expired(before, at_most),

            Command::AddCa(ca) => self.add_ca(ca),
            Command::UpdateCa { ca, settings } => self.update_ca(&ca, settings),
            Command::DeleteCa(ca) => self.delete_ca(&ca),

            Command::AdmitUnknown { certificate, name } => self.admit_unknown(certificate, name),
            Command::ProvisionJustInTime { certificate, template, thing, if_exists, enter } => {
                self.provision_just_in_time(certificate, &template, thing, if_exists, enter)
            }

            Command::BeginEnrolment { certificate, asker, token, until } => {
                self.begin_enrolment(certificate, asker, token, until)
            }
            Command::RegisterThing(registration) => self.register_thing(*registration),
            Command::Renew { certificate, asker } => self.renew(certificate, &asker),
            Command::CompleteRotation { certificate, retire_at } => {
                self.complete_rotation(&certificate, retire_at)
            }
            Command::RetireSuperseded { at_most } => self.retire_superseded(at_most),

            Command::CreateClaim { claim, certificate } => self.create_claim(claim, certificate),
            Command::UpdateClaim(claim) => self.update_claim(claim),
            Command::SuspendClaim { claim, suspended } => self.suspend_claim(claim, suspended),
            Command::AddClaimSerials { claim, serials } => self.add_claim_serials(claim, serials),
            Command::CreateToken(token) => self.create_token(token),
            Command::UseToken { token, certificate, never_connected } => {
                self.use_token(token, certificate, &never_connected)
            }
            Command::DeleteToken(token) => self.delete_token(token),
            Command::ExpireTokens { before, at_most } => self.expire_tokens(before, at_most),
            Command::SetTemplate(template) => self.set_template(template),
            Command::DeleteTemplate(template) => self.delete_template(template),

            Command::AskApproval(request) => self.ask_approval(request),
            Command::DecideApproval { request, approved } => self.decide_approval(request, approved),
            Command::EndApproval(request) => self.end_approval(&request),

            Command::AcceptClock => self.accept_clock(),
            Command::Note { topic, text } => {
                self.push(Change::Noted { topic, text });
                Ok(())
            }
        }
    }

    fn accept_clock(&mut self) -> Decided {
        let was = self.registry.last_event_at();
        if self.now < was {
            self.push(Change::ClockAccepted { was });
        }
        Ok(())
    }
}
