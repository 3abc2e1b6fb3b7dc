//! `[revocation]`, `[standing]` and `[clones]`.

use super::Checker;
use super::read::View;
use crate::Registry;
use crate::raw::Table;
use crate::schema::Section;
use crate::standing::{
    CloneAction, Clones, RetainedOfRevoked, Revocation, SessionOfRevoked, StandingRules, TopicPatterns,
    WillOfRevoked,
};

impl Checker<'_> {
    pub(super) fn revocation(&mut self, root: &Table) -> Revocation {
        let view = self.section(root, Section::Revocation);
        let topics = self.topics(&view, "status-topics");
        let retained = match self.choice(&view, "retained") {
            "all" => RetainedOfRevoked::All,
            "keep" => RetainedOfRevoked::Keep,
            _ => RetainedOfRevoked::Status(topics),
        };
        if view.has("status-topics") && !matches!(retained, RetainedOfRevoked::Status(_)) {
            self.problem_with_hint(
                &view.place("status-topics"),
                "\"status-topics\" has no effect",
                "write retained = \"status\", or remove it",
            );
        }
        Revocation {
            will: match self.choice(&view, "will") {
                "send" => WillOfRevoked::Send,
                _ => WillOfRevoked::Suppress,
            },
            retained,
            session: match self.choice(&view, "session") {
                "keep" => SessionOfRevoked::Keep,
                _ => SessionOfRevoked::Delete,
            },
        }
    }

    pub(super) fn standing(&mut self, root: &Table) -> StandingRules {
        let view = self.section(root, Section::Standing);
        let refused_pause_max = self.time(&view, "refused-pause-max");
        StandingRules {
            expired_grace: self.seconds(&view, "expired-grace"),
            recovery_topics: self.topics(&view, "recovery-topics"),
            refused_pause_max: (!refused_pause_max.is_zero()).then_some(refused_pause_max),
        }
    }

    pub(super) fn clones(&mut self, root: &Table, registry: &Registry) -> Clones {
        let view = self.section(root, Section::Clones);
        let action = match self.choice(&view, "action") {
            "off" => CloneAction::Off,
            "quarantine" => CloneAction::Quarantine,
            _ => CloneAction::Alarm,
        };
        if action == CloneAction::Quarantine && *registry == Registry::Off {
            self.problem_with_hint(
                &view.place("action"),
                "action = \"quarantine\" needs the registry, which remembers who is in quarantine",
                "write mode = \"on\" in [registry], or action = \"alarm\"",
            );
        }
        Clones { action, returns: self.some_u32(&view, "returns"), within: self.time(&view, "within") }
    }

    fn topics(&mut self, view: &View<'_>, name: &str) -> TopicPatterns {
        let written = self.texts(view, name);
        match TopicPatterns::new(written) {
            Ok(topics) => topics,
            Err(why) => {
                self.problem(&view.place(name), format!("\"{name}\": {why}"));
                TopicPatterns::default()
            }
        }
    }
}
