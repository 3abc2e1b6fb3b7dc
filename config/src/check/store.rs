//! `[store]`.

use super::Checker;
use crate::raw::Table;
use crate::schema::Section;
use crate::store::{Corrupt, DiskStore, Durability, Store};

impl Checker<'_> {
    pub(super) fn store(&mut self, root: &Table) -> Store {
        let view = self.section(root, Section::Store);
        let directory = self.file(&view, "directory");
        let word = self.choice(&view, "durability");
        let linger = self.time(&view, "durability-linger");
        let interval = self.time(&view, "batched-interval");
        let journal_bytes_max = usize::try_from(self.bytes(&view, "journal-bytes-max")).unwrap_or(usize::MAX);
        let corrupt = match self.choice(&view, "corrupt") {
            "quarantine" => Corrupt::Quarantine,
            _ => Corrupt::Refuse,
        };
        let durability = match word {
            "memory" => {
                for name in
                    ["directory", "durability-linger", "batched-interval", "journal-bytes-max", "corrupt"]
                {
                    if view.has(name) {
                        let hint = "remove it, or write durability = \"strict\"";
                        self.problem_with_hint(
                            &view.place(name),
                            format!("\"{name}\" has no effect with durability = \"memory\""),
                            hint,
                        );
                    }
                }
                return Store::Memory;
            }
            "batched" => Durability::Batched { interval },
            _ => Durability::Strict { linger },
        };
        for (name, mode, other) in
            [("durability-linger", "strict", "batched"), ("batched-interval", "batched", "strict")]
        {
            if view.has(name) && word == other {
                self.problem_with_hint(
                    &view.place(name),
                    format!("\"{name}\" has no effect with durability = \"{other}\""),
                    format!("remove it, or write durability = \"{mode}\""),
                );
            }
        }
        if !view.has("directory") {
            for name in
                ["durability", "durability-linger", "batched-interval", "journal-bytes-max", "corrupt"]
            {
                if view.has(name) {
                    self.problem_with_hint(
                        &view.place(name),
                        format!("\"{name}\" needs a place on disk"),
                        "write directory = \"data\" in [store], or durability = \"memory\"",
                    );
                }
            }
            return Store::Memory;
        }
        Store::Disk(DiskStore { directory, durability, journal_bytes_max, corrupt })
    }
}
