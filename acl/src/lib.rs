//! Who may do what: the text of a Mosquitto `acl_file` becomes a compiled [`Policy`], and a policy answers every
//! question of authorization that the broker asks.
//!
//! The grammar and the order of evaluation are Mosquitto's; the manual page `broker/docs/access-control.md` states
//! both, the extensions, and every difference. In short, a question is decided by the first of these that has an
//! answer:
//!
//! 1. publishing below `$SYS`, `$share`, `$CONTROL` and `$aws` is refused (but for the requests of provisioning), and so is
//!    reading `$aws/events` to all but operators;
//! 2. the section of the principal's name (`user NAME`): its `deny` rules, then its other rules;
//! 3. the sections of the principal's role and groups (`role NAME`), taken together in the same way;
//! 4. the `pattern` rules, in the same way, unless a name could be read as a wildcard;
//! 5. the built-in rights of provisioning, which a device has while there is a template for its rotation;
//! 6. nothing matched: refused.
//!
//! [`Authorized`] is the type that the router takes. Only [`Policy::authorize`] (and, for what the broker itself
//! says below `$`, [`authorize_broker`]) makes one.
//!
//! ```
//! use signet_acl::{ParseOptions, Policy, Subject};
//! use signet_identity::{CertificateId, Principal, ThingName};
//! use signet_wire::TopicName;
//!
//! let text = "pattern write devices/%u/telemetry/#\n";
//! let (policy, warnings) = Policy::parse(text, "acl.conf", &ParseOptions::default()).unwrap();
//! assert!(warnings.is_empty());
//!
//! let name = ThingName::try_from("sensor-001").unwrap();
//! let principal = Principal::device(name, CertificateId::of(b"the DER"), Vec::new());
//! let who = Subject { principal: &principal, client_id: "sensor-001" };
//! let own = TopicName::try_from("devices/sensor-001/telemetry/temperature").unwrap();
//! let other = TopicName::try_from("devices/sensor-002/telemetry/temperature").unwrap();
//! assert!(policy.may_publish(&who, &own).is_ok());
//! assert!(policy.may_publish(&who, &other).is_err());
//! ```

mod claim;
mod compile;
mod decision;
mod diff;
mod explain;
mod grammar;
mod levels;
mod lint;
mod policy;
mod problem;
mod recovery;
mod reserved;
mod rights;
mod trie;

pub use compile::{POLICY_BYTES_MAX, ParseOptions};
pub use decision::{
    Access, Authorized, Denied, DenyCause, RuleId, RuleInfo, Subject, Topical, authorize_broker,
};
pub use diff::{Change, Diff, Direction, diff};
pub use explain::{Considered, Explanation, Outcome, Question, QuestionError, Stage};
pub use grammar::LEVELS_MAX;
pub use lint::lint;
pub use policy::Policy;
pub use problem::{AclError, AclErrorKind, PROBLEMS_MAX, Warning, WarningKind};
pub use rights::{RIGHTS_SHOWN_MAX, Right, Rights};
