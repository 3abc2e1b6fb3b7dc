//! Applying events.
use crate::{Event, Registry};

impl Registry {
    /// Takes what happened into the registry. It cannot fail, and does nothing else.
    ///
    /// An event that does not fit the state, which only a damaged store can hold, changes as much of it as fits.
    pub fn apply(&mut self, event: &Event) {
        todo!()
    }
}
