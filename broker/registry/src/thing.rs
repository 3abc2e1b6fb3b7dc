//! Things: the members of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signet_identity::{CertificateId, GROUPS_MAX, GroupName, ThingName};
use smallvec::SmallVec;

use crate::{Line, Override, Overrides, RegistryError, Wall};

/// The most attributes of a thing.
pub const ATTRIBUTES_MAX: usize = 50;
/// The most bytes of an attribute's name.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 128;
/// The most bytes of an attribute's value.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 800;
/// The most bytes of a thing type's name.
pub const TYPE_NAME_BYTES_MAX: usize = 128;

/// The attributes of a thing: name to value, within [`ATTRIBUTES_MAX`] and the grammar of the AWS IoT registry
/// (names `[a-zA-Z0-9_.,@/:#-]+`, values `[a-zA-Z0-9_.,@/:#=\[\]-]*`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Box<str>, Box<str>>", into = "BTreeMap<Box<str>, Box<str>>")]
pub struct Attributes(BTreeMap<Box<str>, Box<str>>);

impl Attributes {
    /// The attributes of `pairs`.
    ///
    /// # Errors
    /// [`RegistryError::Attribute`] for a name or value outside of the grammar, [`RegistryError::Full`] for too many.
    pub fn new(pairs: BTreeMap<Box<str>, Box<str>>) -> Result<Self, RegistryError> {
        const ANYWHERE: &str = "_.,@/:#-";
        if pairs.len() > ATTRIBUTES_MAX {
            return Err(RegistryError::Full { what: "attributes of a thing", max: ATTRIBUTES_MAX });
        }
        for (name, value) in &pairs {
            let named = |c: char| c.is_ascii_alphanumeric() || ANYWHERE.contains(c);
            let valued = |c: char| named(c) || "=[]".contains(c);
            let right = !name.is_empty()
                && name.len() <= ATTRIBUTE_NAME_BYTES_MAX
                && name.chars().all(named)
                && value.len() <= ATTRIBUTE_VALUE_BYTES_MAX
                && value.chars().all(valued);
            if !right {
                return Err(RegistryError::Attribute { name: name.as_ref().into() });
            }
        }
        Ok(Self(pairs))
    }

    /// The value of the attribute `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<Box<str>, Box<str>>> for Attributes {
    type Error = RegistryError;

    fn try_from(pairs: BTreeMap<Box<str>, Box<str>>) -> Result<Self, RegistryError> {
        Self::new(pairs)
    }
}

impl From<Attributes> for BTreeMap<Box<str>, Box<str>> {
    fn from(attributes: Attributes) -> Self {
        attributes.0
    }
}

/// The groups of a thing, in name order, without repetition, at most [`GROUPS_MAX`]. Cloning copies a pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<GroupName>", into = "Vec<GroupName>")]
pub struct Groups(Arc<[GroupName]>);

impl Groups {
    /// The set of `groups`.
    ///
    /// # Errors
    /// [`RegistryError::Full`] when there are more than [`GROUPS_MAX`].
    pub fn new(mut groups: Vec<GroupName>) -> Result<Self, RegistryError> {
        groups.sort_unstable();
        groups.dedup();
        if groups.len() > GROUPS_MAX {
            return Err(RegistryError::Full { what: "groups of a thing", max: GROUPS_MAX });
        }
        Ok(Self(groups.into()))
    }

    /// The groups.
    #[must_use]
    pub fn as_slice(&self) -> &[GroupName] {
        &self.0
    }
}

impl TryFrom<Vec<GroupName>> for Groups {
    type Error = RegistryError;

    fn try_from(groups: Vec<GroupName>) -> Result<Self, RegistryError> {
        Self::new(groups)
    }
}

impl From<Groups> for Vec<GroupName> {
    fn from(groups: Groups) -> Self {
        groups.0.to_vec()
    }
}

/// What can be said about a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThingSpec {
    /// The name: `<thing>` in topics, `%u` and `%t` in access rules.
    pub name: ThingName,
    /// The kind of device; at most [`TYPE_NAME_BYTES_MAX`] bytes of a name's grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thing_type: Option<ThingType>,
    /// Free pairs for people and templates.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// The groups, which access rules may name.
    #[serde(default)]
    pub groups: Groups,
}

impl ThingSpec {
    /// A thing of which only the name is known.
    #[must_use]
    pub fn named(name: ThingName) -> Self {
        Self { name, thing_type: None, attributes: Attributes::default(), groups: Groups::default() }
    }

    /// What becomes of this thing when `given` is registered for it under `overrides`.
    ///
    /// # Errors
    /// [`RegistryError::Full`] when the merged attributes or groups are too many.
    pub(crate) fn adjusted(&self, given: Self, overrides: &Overrides) -> Result<Self, RegistryError> {
        let attributes = match overrides.attributes {
            Override::Keep => self.attributes.clone(),
            Override::Replace => given.attributes,
            Override::Merge => {
                let mut merged = self.attributes.0.clone();
                merged.extend(given.attributes.0);
                Attributes::new(merged)?
            }
        };
        let (kept, added): (&[_], &[_]) = match overrides.groups {
            Override::Keep => (self.groups.as_slice(), &[]),
            Override::Replace => (&[], given.groups.as_slice()),
            Override::Merge => (self.groups.as_slice(), given.groups.as_slice()),
        };
        let groups = Groups::new([kept, added, overrides.join.as_slice()].concat())?;
        let thing_type = if overrides.replace_type { given.thing_type } else { self.thing_type.clone() };
        Ok(Self { name: self.name.clone(), thing_type, attributes, groups })
    }
}

/// The name of a kind of device. It has the grammar of a thing's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ThingType(pub ThingName);

/// A list of certificates, one of which is the common case.
pub(crate) type Held = SmallVec<[CertificateId; 1]>;

/// Why a thing reaches nothing but its recovery topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Since when.
    pub since: Wall,
    /// Why, for people.
    pub why: Line,
}

/// A member of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    /// What was said about it.
    pub spec: ThingSpec,
    /// Counts changes of `spec`, from 1.
    pub version: u64,
    /// Since when it exists.
    pub added: Wall,
    /// Whether it ever had a certificate: from then on a claim alone does not get it another one.
    pub certified: bool,
    /// Whether a certificate of it was revoked for another reason than being superseded: until an operator approves, only an
    /// operator gives it a new one.
    pub barred: bool,
    /// Until when an operator lets it be provisioned again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_until: Option<Wall>,
    /// Since when and why it is in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// Its certificates, in any state.
    #[serde(skip)]
    pub(crate) held: Held,
}

impl Thing {
    /// Its certificates, in any state, in the order in which they were bound to it.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateId] {
        &self.held
    }

    /// Whether an operator lets it be provisioned again at `now`.
    #[must_use]
    pub fn approved(&self, now: Wall) -> bool {
        self.approved_until.is_some_and(|until| now <= until)
    }
}
