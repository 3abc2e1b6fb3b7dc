//! `[provisioning]`.

use super::Checker;
use super::read::View;
use crate::raw::Table;
use crate::schema::Section;
use crate::{Hook, Provisioning};
use std::num::NonZeroU16;

impl Checker<'_> {
    pub(super) fn provisioning(&mut self, root: &Table) -> Provisioning {
        let view = self.section(root, Section::Provisioning);
        Provisioning {
            hook: self.hook(&view),
            hook_deadline: self.time(&view, "hook-deadline"),
            hooks_max: self.some_u16(&view, "hooks-max"),
            requests_in_flight_max: self.some_u32(&view, "requests-in-flight-max"),
            requests_per_principal_per_second: self.optional_u32(&view, "requests-per-principal-per-second"),
            requests_per_device_per_second: self.optional_u32(&view, "requests-per-device-per-second"),
            just_in_time_per_authority_per_second: self
                .optional_u32(&view, "just-in-time-per-authority-per-second"),
            requests_per_address_per_second: self.optional_u32(&view, "requests-per-address-per-second"),
            ownership_token_validity: self.seconds(&view, "ownership-token-validity"),
            rotation_grace: self.seconds(&view, "rotation-grace"),
            alarm_refusals: self.some_u32(&view, "alarm-refusals"),
            suspend_claim_refusals: self.optional_u32(&view, "suspend-claim-refusals"),
            threads: NonZeroU16::new(self.count_u16(&view, "threads")),
        }
    }

    fn optional_u32(&mut self, view: &View<'_>, name: &str) -> Option<std::num::NonZeroU32> {
        std::num::NonZeroU32::new(self.count_u32(view, name))
    }

    fn hook(&mut self, view: &View<'_>) -> Hook {
        let command = view.has("hook-command").then(|| self.file(view, "hook-command"));
        let url = self.characters(view, "hook-url");
        match (command, url.is_empty()) {
            (Some(_), false) => {
                self.problem_with_hint(
                    &view.place("hook-url"),
                    "\"hook-command\" and \"hook-url\" exclude each other",
                    "one of them decides: remove the other",
                );
                Hook::None
            }
            (Some(command), true) => Hook::Command(command),
            (None, false) => {
                if !is_http_url(&url) {
                    self.problem_with_hint(
                        &view.place("hook-url"),
                        format!("{url:?} is not the address of a hook"),
                        "http://HOST[:PORT]/PATH: the hook runs on this machine or a trusted network; TLS is the proxy's",
                    );
                }
                Hook::Http(url)
            }
            (None, true) => Hook::None,
        }
    }
}

fn is_http_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    !host.is_empty()
        && !host.contains('@')
        && !rest.contains('#')
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}
