//! An operator's requests on one connection to the admin socket that stays open: what the broker does is measured, and not how
//! long a process of the command line takes to begin on the same cores.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A longer answer is an error.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Operator {
    stream: BufReader<UnixStream>,
}

impl Operator {
    /// Connects to the admin socket of a broker.
    pub(crate) async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.context("connecting to the admin socket")?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// One request, as `signet` makes it; the answer. What the broker refuses is an error.
    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Result<String> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: signet\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let status = self.line().await?;
        let mut length = 0;
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(status.contains(" 200 "), "{path}: {status}: {answer}");
        Ok(answer)
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line).await? > 0, "the broker closed the admin socket");
        Ok(line.trim_end().to_owned())
    }
}
