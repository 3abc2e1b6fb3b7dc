//! Things.

use signet_identity::ThingName;

use super::{Decided, Draft};
use crate::certificate::{RevocationReason, Status};
use crate::event::{Cause, Change};
use crate::thing::ThingSpec;
use crate::{Line, RegistryError, Wall};

impl Draft<'_> {
    pub(super) fn add_thing(&mut self, thing: ThingSpec) -> Decided {
        let max = self.registry.limits.things_max;
        if self.registry.thing(&thing.name).is_some() {
            return Err(RegistryError::ThingExists(thing.name));
        }
        if self.registry.things_count() >= max {
            return Err(RegistryError::Full { what: "things", max });
        }
        self.push(Change::ThingAdded { thing: Box::new(thing) });
        Ok(())
    }

    pub(super) fn update_thing(&mut self, thing: ThingSpec, version: Option<u64>) -> Decided {
        let known = self.thing(&thing.name)?;
        if let Some(expected) = version
            && expected != known.version
        {
            let found = known.version;
            return Err(RegistryError::VersionConflict { thing: thing.name, expected, found });
        }
        self.replace_spec(known, thing);
        Ok(())
    }

    pub(super) fn delete_thing(&mut self, name: ThingName) -> Decided {
        let held = self.thing(&name)?.certificates();
        for certificate in held.iter().filter_map(|id| self.registry.certificate(id)) {
            if !matches!(certificate.status, Status::Revoked { .. }) {
                let reason = RevocationReason::CessationOfOperation;
                let certificate = *certificate.id();
                self.push(Change::CertificateRevoked { certificate, reason, cause: Cause::ThingDeleted });
            }
        }
        self.push(Change::ThingDeleted { thing: name });
        Ok(())
    }

    pub(super) fn approve_thing(&mut self, thing: ThingName, until: Option<Wall>) -> Decided {
        let before = self.thing(&thing)?.approved_until;
        if let Some(until) = until {
            self.future(until)?;
        }
        if before != until {
            self.push(Change::ThingApproved { thing, until });
        }
        Ok(())
    }

    /// The first reason stays: it says since when.
    pub(super) fn quarantine(&mut self, thing: ThingName, why: Line) -> Decided {
        if self.thing(&thing)?.quarantine.is_none() {
            self.push(Change::ThingQuarantined { thing, why });
        }
        Ok(())
    }

    pub(super) fn release(&mut self, thing: ThingName) -> Decided {
        if self.thing(&thing)?.quarantine.is_some() {
            self.push(Change::ThingReleased { thing });
        }
        Ok(())
    }
}
