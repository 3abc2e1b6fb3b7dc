//! The rights of a principal in quarantine.

use std::sync::Arc;

use crate::decision::{Access, Denied, DenyCause, RuleId, Subject, Values};
use crate::policy::{Policy, answer, is_dangerous};

impl Policy {
    /// The same policy, under which a principal in quarantine has the `pattern` rules of `recovery`, and what a device has
    /// to renew its certificate. Without them it has the latter alone. A `deny` rule that comes first in this policy holds
    /// in quarantine too; no other rule of it does.
    #[must_use]
    pub fn with_recovery(mut self, recovery: Arc<Self>) -> Self {
        self.recovery = Some(recovery);
        self
    }

    /// What a principal in quarantine may do.
    pub(crate) fn decide_in_quarantine(
        &self,
        who: &Subject<'_>,
        access: Access,
        asked: &str,
        values: &Values<'_>,
    ) -> Result<RuleId, Denied> {
        if let Err(denied @ Denied { because: DenyCause::Rule(_) }) =
            self.decide_by_rules(who, access, asked, values)
        {
            return Err(denied);
        }
        if let Some(allowed) = self.decide_rotation(access, asked, values) {
            return allowed;
        }
        let refused = Err(Denied { because: DenyCause::Quarantine });
        let Some(recovery) = &self.recovery else { return refused };
        let Some(section) = recovery.sections.patterns.filter(|_| !is_dangerous(values)) else {
            return refused;
        };
        match answer(recovery.hits(section, access, asked, values)) {
            Some(Ok(RuleId(id))) => Ok(RuleId(id | RuleId::RECOVERY)),
            _ => refused,
        }
    }
}
