//! Templates, read once.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use signet_identity::TemplateName;
use signet_registry::template::TemplateBody;
use signet_registry::{Change, Event, Registry, RegistryError, TemplateKind, TemplateSpec};

use super::refused::Refused;

/// Templates that were read, with the text that they were read from. At most as many as the registry has had at once.
#[derive(Debug, Default)]
pub(super) struct Templates(Mutex<HashMap<TemplateName, Read, RandomState>>);

#[derive(Debug)]
struct Read {
    text: Arc<str>,
    kind: TemplateKind,
    body: Arc<TemplateBody>,
}

impl Templates {
    /// The template `name`, if it is in use and of `kind`.
    pub(super) fn usable(
        &self,
        registry: &Registry,
        name: &TemplateName,
        kind: TemplateKind,
    ) -> Result<Arc<TemplateBody>, Refused> {
        let Some(template) = registry.template(name.as_str()) else {
            return Err(RegistryError::NoTemplate(name.clone()).into());
        };
        if template.spec.kind != kind || !template.spec.enabled {
            return Err(RegistryError::TemplateNotAllowed(name.clone()).into());
        }
        self.read(registry, &template.spec)
    }

    fn read(&self, registry: &Registry, spec: &TemplateSpec) -> Result<Arc<TemplateBody>, Refused> {
        let mut all = self.0.lock();
        if let Some(read) = all.get(&spec.name)
            && read.kind == spec.kind
            && (Arc::ptr_eq(&read.text, &spec.body) || read.text == spec.body)
        {
            return Ok(Arc::clone(&read.body));
        }
        // It was checked when it was stored; by another version of this program, perhaps.
        let body = TemplateBody::parse(spec.kind, &spec.body)
            .map_err(|_| Refused::template_broken(&spec.name.as_str()))?;
        let body = Arc::new(body);
        all.retain(|name, _| registry.template(name.as_str()).is_some());
        let read = Read { text: Arc::clone(&spec.body), kind: spec.kind, body: Arc::clone(&body) };
        all.insert(spec.name.clone(), read);
        Ok(body)
    }
}

/// The templates by which devices may renew their own certificates.
pub(super) fn for_rotation(registry: &Registry) -> Arc<[TemplateName]> {
    registry
        .templates()
        .filter(|template| template.spec.kind == TemplateKind::Rotation && template.spec.enabled)
        .map(|template| template.spec.name.clone())
        .collect()
}

/// Whether `events` changed templates.
pub(super) fn concerned(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(event.change, Change::TemplateSet { .. } | Change::TemplateDeleted { .. }))
}
