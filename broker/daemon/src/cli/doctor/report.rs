//! The report: what was looked at, what was found, and how that is printed.

use std::fmt::Write as _;

use serde::Serialize;

use super::device::Heap;
use super::finding::{Finding, Severity};
use crate::admin::judge::Judgement;

/// Everything that one run has to say.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What was asked about.
    pub target: String,
    /// Whether no error was found.
    pub good: bool,
    /// What was looked at, in the order in which it was.
    pub facts: Vec<Fact>,
    /// What is wrong, errors first.
    pub findings: Vec<Finding>,
    /// What the broker says, when one was asked.
    pub judgement: Option<Judgement>,
    /// What it costs a device with Mbed TLS, estimated.
    pub heap: Vec<Heap>,
}

/// One line of a report that is no finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fact {
    /// What it is about, in a word or two.
    pub topic: &'static str,
    /// What was seen.
    pub text: String,
}

impl Report {
    /// An empty report about `target`.
    pub(super) fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            good: true,
            facts: Vec::new(),
            findings: Vec::new(),
            judgement: None,
            heap: Vec::new(),
        }
    }

    /// Notes what was looked at.
    pub(super) fn fact(&mut self, topic: &'static str, text: impl Into<String>) {
        self.facts.push(Fact { topic, text: text.into() });
    }

    /// Puts the findings in order, each once.
    pub(super) fn finish(mut self) -> Self {
        let mut once: Vec<Finding> = Vec::with_capacity(self.findings.len());
        for finding in self.findings {
            if !once.contains(&finding) {
                once.push(finding);
            }
        }
        once.sort_by_key(|finding| finding.kind().severity);
        self.good = once.iter().all(|finding| finding.kind().severity != Severity::Error);
        self.findings = once;
        self
    }

    /// The report for people, with colours if the terminal shows them.
    #[must_use]
    pub fn text(&self, colours: bool) -> String {
        let mut text = format!("{}\n\n", self.target);
        let width = self.facts.iter().map(|fact| fact.topic.len()).max().unwrap_or(0);
        for fact in &self.facts {
            for (index, line) in fact.text.lines().enumerate() {
                let topic = if index == 0 { fact.topic } else { "" };
                let _ = writeln!(text, "  {topic:<width$}  {line}");
            }
        }
        for finding in &self.findings {
            self.write(finding, colours, &mut text);
        }
        let count = |severity| self.findings.iter().filter(|found| found.kind().severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let _ = match (errors, warnings) {
            (0, 0) => writeln!(text, "\n{}", paint("nothing is wrong", GREEN, colours)),
            _ => writeln!(text, "\n{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings)),
        };
        text
    }

    fn write(&self, finding: &Finding, colours: bool, text: &mut String) {
        let kind = finding.kind();
        let colour = match kind.severity {
            Severity::Error => RED,
            Severity::Warning => YELLOW,
            Severity::Note => CYAN,
        };
        let _ = write!(text, "\n{} {}", paint(kind.severity.as_str(), colour, colours), kind.code);
        if let Some(openssl) = kind.openssl {
            let _ = write!(text, " (openssl verify: error {}, {})", openssl.number, openssl.name);
        }
        let _ = writeln!(text, "\n  {}\n  -> {}", finding.to_string().replace('\n', "\n  "), kind.advice);
    }
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const GREEN: &str = "1;32";
const CYAN: &str = "1;36";

fn paint(text: &str, colour: &str, colours: bool) -> String {
    if colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_first_and_each_finding_once_and_only_errors_make_it_bad() {
        let mut report = Report::new("x");
        let warning = || Finding::NoRights { who: "device x".into() };
        let error = Finding::SelfSigned { subject: "CN=x".into() };
        report.findings = vec![warning(), error.clone(), warning()];
        let report = report.finish();
        assert_eq!(report.findings, [error, warning()]);
        assert!(!report.good);
        let text = report.text(false);
        assert!(
            text.contains("error self-signed (openssl verify: error 18, self-signed certificate)"),
            "{text}"
        );
        assert!(text.contains("1 error, 1 warning\n"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert!(report.text(true).contains("\x1b[1;31merror\x1b[0m"));
        let mut mild = Report::new("x");
        mild.findings = vec![warning()];
        assert!(mild.finish().good);
    }
}
