//! `[events]`.

use super::Checker;
use crate::Events;
use crate::raw::Table;
use crate::schema::Section;

impl Checker<'_> {
    pub(super) fn events(&mut self, root: &Table) -> Events {
        let view = self.section(root, Section::Events);
        Events { lifecycle: self.flag(&view, "lifecycle") }
    }
}
