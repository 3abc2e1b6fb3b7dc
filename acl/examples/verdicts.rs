//! Answers questions about a policy, one JSON object a line, for comparisons with other engines.
//!
//! `{"policy": TEXT}` loads a policy, read with Mosquitto's leniency; the answer is `{"errors": [...], "strict":
//! [...]}`: what is wrong with it, and what is wrong with it under the default options. `{"user": NAME, "client":
//! ID, "access": "read"|"write"|"subscribe", "topic": TOPIC}` is answered with `{"allowed": BOOL, "because":
//! TEXT}`, or with `{"identity": TEXT}` when no certificate may give that name.

use std::io::{BufRead as _, Write as _};

use serde_json::{Value, json};
use signet_acl::{Access, ParseOptions, Policy, Question, Subject};
use signet_identity::{CertificateId, Principal, ThingName};

fn main() -> std::io::Result<()> {
    let mut policy = Policy::deny_all();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = match text(&request, "policy") {
            Some(source) => load(source, &mut policy),
            None => decide(&policy, &request),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn text<'a>(request: &'a Value, key: &str) -> Option<&'a str> {
    request.get(key).and_then(Value::as_str)
}

fn load(source: &str, policy: &mut Policy) -> Value {
    let lenient = ParseOptions {
        allow_pattern_without_variable: true,
        allow_mid_level_variable: true,
        ..ParseOptions::default()
    };
    let errors = |options: &ParseOptions| match Policy::parse(source, "acl", options) {
        Ok((parsed, _)) => (Some(parsed), Vec::new()),
        Err(errors) => (None, errors.iter().map(ToString::to_string).collect()),
    };
    let (parsed, wrong) = errors(&lenient);
    let (_, strict) = errors(&ParseOptions::default());
    *policy = parsed.unwrap_or_else(Policy::deny_all);
    json!({ "errors": wrong, "strict": strict })
}

fn decide(policy: &Policy, request: &Value) -> Value {
    let (Some(user), Some(client_id), Some(topic)) =
        (text(request, "user"), text(request, "client"), text(request, "topic"))
    else {
        return json!({ "error": "user, client and topic are needed" });
    };
    let access = match text(request, "access") {
        Some("read") => Access::Read,
        Some("write") => Access::Write,
        Some("subscribe") => Access::Subscribe,
        _ => return json!({ "error": "access is read, write or subscribe" }),
    };
    let name = match ThingName::try_from(user) {
        Ok(name) => name,
        Err(why) => return json!({ "identity": why.to_string() }),
    };
    let question = match Question::new(access, topic) {
        Ok(question) => question,
        Err(why) => return json!({ "error": why.to_string() }),
    };
    let principal = Principal::device(name, CertificateId::of(user.as_bytes()), Vec::new());
    let explanation = policy.explain(&Subject { principal: &principal, client_id }, &question);
    json!({ "allowed": explanation.verdict.is_ok(), "because": explanation.to_string() })
}
