//! Requests that an operator has to approve.

use super::{Decided, Draft};
use crate::approval::{DECISION_KEPT, WAITING_KEPT};
use crate::event::Change;
use crate::{APPROVALS_PER_DEVICE_MAX, Approval, ApprovalRequest, RegistryError, RequestId};

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
                let of_device = || kept.iter().filter(|approval| approval.request.device == request.device);
                if of_device().count() >= APPROVALS_PER_DEVICE_MAX {
                    let undecided = of_device().find(|approval| approval.approved.is_none());
                    ended.extend(undecided.or_else(|| of_device().next()).map(|approval| &***approval));
                }
                let max = registry.limits.approvals_max;
                if registry.approvals.len() - ended.len() >= max {
                    return Err(RegistryError::Full { what: "enrolments that wait for approval", max });
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
