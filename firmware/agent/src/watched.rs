//! A stream that remembers what its last error meant. The MQTT client passes only the kind of an error on.

use core::cell::Cell;

use embedded_io_async::{ErrorType, Read, Write};
use signet_device_core::Failure;

/// The stream, what judges its errors, and where the judgement is kept.
pub(crate) struct Watched<'a, S: ErrorType> {
    pub(crate) stream: S,
    pub(crate) judge: fn(&S::Error) -> Failure,
    pub(crate) judged: &'a Cell<Option<Failure>>,
}

impl<S: ErrorType> Watched<'_, S> {
    fn watch<T>(&self, result: Result<T, S::Error>) -> Result<T, S::Error> {
        if let Err(error) = &result {
            self.judged.set(Some((self.judge)(error)));
        }
        result
    }
}

impl<S: ErrorType> ErrorType for Watched<'_, S> {
    type Error = S::Error;
}

impl<S: Read> Read for Watched<'_, S> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, S::Error> {
        let result = self.stream.read(bytes).await;
        self.watch(result)
    }
}

impl<S: Write> Write for Watched<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, S::Error> {
        let result = self.stream.write(bytes).await;
        self.watch(result)
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        let result = self.stream.flush().await;
        self.watch(result)
    }
}
