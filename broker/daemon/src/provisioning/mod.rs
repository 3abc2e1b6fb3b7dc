//! Certificates for devices that ask for them over MQTT: what the provisioning topics do.

use signet_core::provisioning::{Answer, ErrorCode, Request};

use crate::directory::Live;
use crate::server::Broker;

/// Takes a request of a connection. It does not wait; the answer comes to the connection by itself.
pub(crate) fn submit(broker: &Broker, _live: &Live, request: Request) {
    let rejection = ErrorCode::ServiceUnavailable.because("This broker issues no certificates.");
    broker.hub().answer(request.reply_to, &Answer::Rejected(rejection));
}
