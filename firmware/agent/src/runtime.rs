//! What the agent runs on.

use embedded_io_async::{Read, Write};
use signet_device_core::platform::Clock;
use signet_device_core::telemetry::Reading;
use signet_device_core::{Connect, Event, Failure};

/// Makes connections: name resolution, TCP, TLS with the credential that it is given.
#[allow(async_fn_in_trait, reason = "the agent is one future on one thread, and asks for no Send")]
pub trait Connector {
    /// What can go wrong with a connection.
    type Error: embedded_io_async::Error;
    /// A connection after its handshake.
    type Stream<'a>: Read<Error = Self::Error> + Write<Error = Self::Error>
    where
        Self: 'a;

    /// Connects. The agent drops the future when [`Connect::timeout_ms`] is over.
    ///
    /// # Errors
    ///
    /// Why there is no connection, as exactly as can be said: the device decides by it which credential to try next.
    async fn connect(&mut self, with: &Connect) -> Result<Self::Stream<'_>, Failure>;

    /// Connects to a server of HTTPS at `host`, a name, and `port`: TLS that checks the server as for the broker, and shows no
    /// certificate of the device. The agent drops the future when the question's time is over.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    async fn reach(&mut self, host: &str, port: u16) -> Result<Self::Stream<'_>, Failure>;

    /// What an error of the stream means. In TLS 1.3 the broker's refusal of a certificate arrives as an error of the first
    /// read.
    fn judge(error: &Self::Error) -> Failure;
}

/// Everything else.
#[allow(async_fn_in_trait, reason = "as above")]
pub trait Runtime: Clock {
    /// Waits until [`Clock`] shows `mono` milliseconds. Dropping the future is harmless.
    async fn until(&self, mono: u64);

    /// Asks for the time of day, in its own time. The clock shows it when it is there.
    fn set_clock(&mut self);

    /// Waits for something that the device should look at before its next deadline: the clock was set, a button. Dropping the
    /// future is harmless.
    async fn roused(&self);

    /// Reads the sensor; `None` when it does not answer.
    async fn sample(&mut self) -> Option<Reading>;

    /// Whether a person has asked for a rotation since the last call, by a button or on the console. Asked while the device is
    /// connected, and after [`Runtime::roused`].
    fn rotation_wanted(&mut self) -> bool {
        false
    }

    /// The broker has taken a message. For a light, or for statistics.
    fn acknowledged(&mut self) {}

    /// Blinks for `secs` seconds.
    fn identify(&mut self, secs: u16);

    /// Something that a person may want to know.
    fn note(&mut self, event: &Event);
}
