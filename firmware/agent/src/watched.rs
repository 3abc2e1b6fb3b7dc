//! A stream that remembers what its last error meant, since the MQTT client passes only the kind of an error on, and that sends a
//! packet in one piece, since the client writes field by field, and every write would be a record of TLS.

use alloc::vec::Vec;
use core::cell::Cell;

use embedded_io_async::{ErrorType, Read, Write};
use signet_device_core::Failure;

/// So many bytes are gathered before a flush, at most. A record of 2 KiB has room for them.
const GATHERED_MAX: usize = 1024;

/// The stream, what judges its errors, and where the judgement is kept.
pub(crate) struct Watched<'a, S: ErrorType> {
    stream: S,
    judge: fn(&S::Error) -> Failure,
    judged: &'a Cell<Option<Failure>>,
    gathered: Vec<u8>,
}

impl<'a, S: ErrorType> Watched<'a, S> {
    /// `stream`, whose errors are judged by `judge` and noted in `judged`.
    pub(crate) const fn new(
        stream: S,
        judge: fn(&S::Error) -> Failure,
        judged: &'a Cell<Option<Failure>>,
    ) -> Self {
        Self { stream, judge, judged, gathered: Vec::new() }
    }

    /// What the last error meant, if there was one.
    pub(crate) const fn judged(&self) -> &'a Cell<Option<Failure>> {
        self.judged
    }

    fn watch<T>(&self, result: Result<T, S::Error>) -> Result<T, S::Error> {
        if let Err(error) = &result {
            self.judged.set(Some((self.judge)(error)));
        }
        result
    }
}

impl<S: Write> Watched<'_, S> {
    /// Sends what was gathered. Whoever drops the future gives the connection up.
    async fn send(&mut self) -> Result<(), S::Error> {
        let result = self.stream.write_all(&self.gathered).await;
        self.gathered.clear();
        self.watch(result)
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
        if self.gathered.len() + bytes.len() > GATHERED_MAX {
            self.send().await?;
        }
        if bytes.len() > GATHERED_MAX {
            let result = self.stream.write(bytes).await;
            return self.watch(result);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.send().await?;
        let result = self.stream.flush().await;
        self.watch(result)
    }
}
