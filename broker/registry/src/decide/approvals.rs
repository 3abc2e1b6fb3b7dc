//! Requests that an operator has to approve.

use std::collections::BTreeMap;
use std::sync::Arc;

use signet_identity::{Role, ThingName};

use super::{Decided, Draft};
use crate::approval::{DECISION_KEPT, STANDS_FOR, WAITING_KEPT};
use crate::event::Change;
use crate::{APPROVALS_PER_DEVICE_MAX, Approval, ApprovalRequest, KeyHash, RegistryError, RequestId};

/// Who brought a device in. When all places are taken, they are shared among these.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin<'a> {
    /// An operator, with a token: the device has no certificate yet.
    Operator,
    /// A claim.
    Claim(&'a ThingName),
    /// The authority with this key.
    Authority(KeyHash),
}

impl Draft<'_> {
    pub(super) fn ask_approval(&mut self, request: ApprovalRequest) -> Decided {
        let registry = self.registry;
        let forgotten = registry.approvals.values().filter(|approval| approval.until <= self.now);
        let mut ended: Vec<&Approval> = forgotten.map(|approval| &**approval).collect();
        match registry.approval(&request.id, self.now) {
            Some(known) if !known.to_be_noted(self.now) => return Ok(()),
            Some(_) => {}
            None => {
                let kept = registry.approvals(self.now);
                ended.extend(self.oldest_of_device(&kept, &request.device)?);
                let max = registry.limits.approvals_max;
                if registry.approvals.len() - ended.len() >= max {
                    let greedy = self.newest_of_greediest(&kept, &request.device);
                    let full = RegistryError::Full { what: "enrolments that wait for approval", max };
                    ended.push(greedy.ok_or(full)?);
                }
            }
        }
        for approval in ended {
            self.end(approval);
        }
        let until = self.now.after(WAITING_KEPT);
        self.push(Change::ApprovalAsked { request: Box::new(request), until });
        Ok(())
    }

    /// What makes room among the requests of `device`, if they are as many as may be.
    fn oldest_of_device<'a>(
        &self,
        kept: &[&'a Arc<Approval>],
        device: &ThingName,
    ) -> Result<Option<&'a Approval>, RegistryError> {
        let of_device = || kept.iter().map(|approval| &***approval).filter(|a| a.request.device == *device);
        let max = APPROVALS_PER_DEVICE_MAX;
        if of_device().count() < max {
            return Ok(None);
        }
        let undecided = of_device().find(|approval| approval.approved.is_none());
        let stood = |approval: &&Approval| approval.first.after(STANDS_FOR) <= self.now;
        match undecided.or_else(|| of_device().next()).filter(stood) {
            Some(oldest) => Ok(Some(oldest)),
            None => Err(RegistryError::Full { what: "enrolments of one device that wait for approval", max }),
        }
    }

    /// What makes room for `device` when all places are taken: the newest request that nobody has decided on, of the origin with
    /// the most of these. Only if the device's own origin stays no greater by that, or the two would take turns.
    fn newest_of_greediest<'a>(
        &self,
        kept: &[&'a Arc<Approval>],
        device: &ThingName,
    ) -> Option<&'a Approval> {
        let mut origins: BTreeMap<Origin<'_>, (usize, &'a Approval)> = BTreeMap::new();
        // The oldest come first, so the newest stays.
        for approval in kept.iter().filter(|approval| approval.approved.is_none()) {
            let origin = origins.entry(self.origin(&approval.request.device)).or_insert((0, &***approval));
            *origin = (origin.0 + 1, &***approval);
        }
        let of_own = origins.get(&self.origin(device)).map_or(0, |(count, _)| *count);
        let (count, newest) = origins.into_values().max_by_key(|(count, _)| *count)?;
        (of_own + 1 < count).then_some(newest)
    }

    fn origin(&self, device: &ThingName) -> Origin<'_> {
        let held = self.registry.thing(device).map_or(&[][..], |thing| thing.certificates());
        let held = || held.iter().filter_map(|id| self.registry.certificate(id));
        let by_claim = |by: &&signet_identity::PrincipalKey| by.role == Role::Claim;
        match held().find_map(|c| c.enrolled_by.as_ref().filter(by_claim)) {
            Some(claim) => Origin::Claim(&claim.name),
            None => held().next().map_or(Origin::Operator, |first| Origin::Authority(first.facts.issuer)),
        }
    }

    pub(super) fn decide_approval(&mut self, request: RequestId, approved: bool) -> Decided {
        let known = self.registry.approval(&request, self.now).ok_or(RegistryError::NoApproval(request))?;
        if known.approved != Some(approved) {
            let (device, until) = (known.request.device.clone(), self.now.after(DECISION_KEPT));
            self.push(Change::ApprovalDecided { request, device, approved, until });
        }
        Ok(())
    }

    pub(super) fn end_approval(&mut self, request: &RequestId) -> Decided {
        if let Some(known) = self.registry.approvals.get(request) {
            self.end(known);
        }
        Ok(())
    }

    fn end(&mut self, approval: &Approval) {
        let (request, device) = (approval.request.id, approval.request.device.clone());
        self.push(Change::ApprovalEnded { request, device });
    }
}
