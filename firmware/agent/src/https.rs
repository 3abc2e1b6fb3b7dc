//! A question over HTTPS: the device's bytes out, the server's answer in.

use core::pin::pin;

use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{Read as _, Write as _};
use signet_device_core::https::{Ask, Reader};
use signet_device_core::platform::Platform;
use signet_device_core::{Action, Failure, Input};

use crate::run::{Agent, Next};
use crate::runtime::{Connector, Runtime};

/// So many bytes are taken at a time.
const PART_BYTES: usize = 1024;

impl<P: Platform, R: Runtime> Agent<'_, P, R> {
    /// Asks, and tells the device what comes, until it is complete or the device wants something else.
    pub(crate) async fn with_question<C: Connector>(&mut self, connector: &mut C, ask: &Ask) -> Next {
        match self.converse_https(connector, ask).await {
            Ok(next) => next,
            Err(failure) => {
                self.handle(Input::Ended(failure));
                Next::Nothing
            }
        }
    }

    async fn converse_https<C: Connector>(&mut self, connector: &mut C, ask: &Ask) -> Result<Next, Failure> {
        let silence = u64::from(ask.timeout_ms);
        let mut give_up = self.runtime.now().mono.saturating_add(silence);
        let opened = {
            let open = pin!(async {
                let mut stream = connector.reach(&ask.host, ask.port).await?;
                stream.write_all(&ask.request).await.map_err(|error| C::judge(&error))?;
                stream.flush().await.map_err(|error| C::judge(&error))?;
                Ok(stream)
            });
            select(open, self.runtime.until(give_up)).await
        };
        let mut stream = match opened {
            Either::First(opened) => opened?,
            Either::Second(()) => return Err(Failure::Unreachable),
        };
        let mut reader = Reader::new();
        let mut bytes = alloc::vec![0; PART_BYTES];
        loop {
            while let Some(action) = self.todo.pop_front() {
                match self.perform(action).await {
                    None => {}
                    Some(Action::Disconnect) => return Ok(Next::Nothing),
                    Some(other) => {
                        if let Some(next) = Next::after(other) {
                            return Ok(next);
                        }
                    }
                }
            }
            let until = self.device.next_deadline().min(give_up);
            match select3(stream.read(&mut bytes), self.runtime.until(until), self.runtime.roused()).await {
                Either3::First(Ok(0)) => return Err(Failure::Lost),
                Either3::First(Ok(length)) => {
                    give_up = self.runtime.now().mono.saturating_add(silence);
                    let Self { device, runtime, todo, out } = self;
                    let runtime: &R = runtime;
                    let over = reader.read(bytes.get(..length).unwrap_or_default(), |answer| {
                        device.handle(runtime.now(), Input::Answered(answer), out);
                        todo.extend(out.drain(..));
                    });
                    if over.map_err(|_| Failure::Unreachable)? {
                        return Ok(Next::Nothing);
                    }
                }
                Either3::First(Err(error)) => return Err(C::judge(&error)),
                Either3::Second(()) | Either3::Third(()) => {
                    if self.runtime.now().mono >= give_up {
                        return Err(Failure::Unreachable);
                    }
                    self.handle(Input::Tick);
                }
            }
        }
    }
}
