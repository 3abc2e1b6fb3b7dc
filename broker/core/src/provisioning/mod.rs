//! The `$aws` topics by which a device asks for its certificate, in JSON and CBOR, as clients of AWS IoT Core know them.
//!
//! A PUBLISH to one of these topics is never routed. The connection checks the right to publish there, reads the payload, and
//! gives out [`Action::Enrol`](crate::Action::Enrol) with a [`Request`]; the acknowledgement says success whatever comes of it.
//! Who serves it answers through [`Hub::answer`](crate::Hub::answer) with the request's [`ReplyTo`], which works once. The
//! answer is sent on the connection that asked, if that connection subscribes to its topic, and nowhere else: it is not
//! routed, not retained, not queued for a session, and not sent again on another connection.

mod answer;
mod document;
mod rejection;
mod request;
mod topic;

pub use answer::{Answer, CertificateAnswer, PrivateKey, Reply};
pub use document::DEPTH_MAX;
pub use rejection::{ErrorCode, Rejection};
pub use request::{OwnershipToken, PAYLOAD_BYTES_MAX, Payload, ReplyTo, Request, read_payload};
pub use topic::{Format, Operation, RequestTopic, is_below_aws};

/// The most requests of one connection that wait for their answers; more are answered with 429 at once.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 4;

/// The largest PUBLISH, in bytes, that the embedded clients have a buffer for (AWS IoT embedded C SDK, signing request flow).
pub const ANSWER_PACKET_BYTES_USUAL: usize = 2048;
