//! The topics.

use signet_identity::TemplateName;
use signet_wire::TopicName;

/// Everything below is the broker's.
const ROOT: &str = "$aws/";

/// Whether a topic or filter lies below `$aws/`.
#[must_use]
pub fn is_below_aws(text: &str) -> bool {
    text.starts_with(ROOT)
}

/// The encoding of a request and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// RFC 8949.
    Cbor,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Json, Self::Cbor];

    /// The last level of a request's topic.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `CreateCertificateFromCsr`: a certificate for the key of a signing request.
    CreateFromCsr,
    /// `CreateKeysAndCertificate`: a certificate for a key that the broker makes.
    CreateKeys,
    /// `RegisterThing`: the thing that a template makes, with a certificate that was created before.
    RegisterThing(TemplateName),
}

impl Operation {
    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::CreateFromCsr => "create_from_csr",
            Self::CreateKeys => "create_keys",
            Self::RegisterThing(_) => "register_thing",
        }
    }
}

/// A topic that a request is published to: exact, case-sensitive, nothing before or behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestTopic {
    /// What is asked for.
    pub operation: Operation,
    /// In which encoding, and in which it is answered.
    pub format: Format,
}

impl RequestTopic {
    /// The request that `topic` stands for; `None` when it is another topic.
    #[must_use]
    pub fn parse(topic: &str) -> Option<Self> {
        let rest = topic.strip_prefix(ROOT)?;
        let (operation, format) = rest.rsplit_once('/')?;
        let format = match format {
            "json" => Format::Json,
            "cbor" => Format::Cbor,
            _ => return None,
        };
        let operation = match operation {
            "certificates/create-from-csr" => Operation::CreateFromCsr,
            "certificates/create" => Operation::CreateKeys,
            _ => {
                let template =
                    operation.strip_prefix("provisioning-templates/")?.strip_suffix("/provision")?;
                Operation::RegisterThing(TemplateName::try_from(template).ok()?)
            }
        };
        Some(Self { operation, format })
    }

    /// The topic of the answer: `accepted` or `rejected` below the request's.
    #[must_use]
    pub fn answer(&self, accepted: bool) -> Option<TopicName> {
        let last = if accepted { "accepted" } else { "rejected" };
        TopicName::try_from(format!("{self}/{last}")).ok()
    }
}

impl std::fmt::Display for RequestTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = self.format.as_str();
        match &self.operation {
            Operation::CreateFromCsr => write!(f, "$aws/certificates/create-from-csr/{format}"),
            Operation::CreateKeys => write!(f, "$aws/certificates/create/{format}"),
            Operation::RegisterThing(template) => {
                write!(f, "$aws/provisioning-templates/{}/provision/{format}", template.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_topic_is_read_as_what_it_is_written_from() {
        let template = TemplateName::try_from("fleet_v1-b").unwrap();
        for format in Format::ALL {
            for operation in
                [Operation::CreateFromCsr, Operation::CreateKeys, Operation::RegisterThing(template.clone())]
            {
                let topic = RequestTopic { operation, format };
                assert_eq!(RequestTopic::parse(&topic.to_string()), Some(topic.clone()));
                assert_eq!(&*topic.answer(true).unwrap(), format!("{topic}/accepted"));
                assert_eq!(&*topic.answer(false).unwrap(), format!("{topic}/rejected"));
            }
        }
    }

    #[test]
    fn what_is_next_to_a_request_topic_is_none() {
        for text in [
            "$aws/certificates/create/json/",
            "$aws/certificates/create/json/accepted",
            "$aws/certificates/create/JSON",
            "$aws/certificates/create",
            "$aws/certificates//json",
            "$aws/certificates/create-from-csr",
            "$aws/certificates/create-from-csr/xml",
            "aws/certificates/create/json",
            "/$aws/certificates/create/json",
            "$aws//certificates/create/json",
            "$aws/provisioning-templates/provision/json",
            "$aws/provisioning-templates//provision/json",
            "$aws/provisioning-templates/a/b/provision/json",
            "$aws/provisioning-templates/a.b/provision/json",
            "$aws/provisioning-templates/a/provision/json/rejected",
            "$aws/provisioning-templates/a/Provision/json",
            &format!("$aws/provisioning-templates/{}/provision/json", "x".repeat(37)),
        ] {
            assert_eq!(RequestTopic::parse(text), None, "{text}");
        }
    }
}
