//! The body of a request: read whole, bounded in bytes and time, before anybody looks at it.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::refusal::Refused;

/// What is read and thrown away of a body that is too large, so that its sender reads the answer and no reset.
const THROWN_AWAY_BYTES_MAX: usize = 1024 * 1024;

/// Reads a body of at most `bytes_max`.
pub(super) async fn read(body: Incoming, bytes_max: usize, within: Duration) -> Result<Bytes, Refused> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > THROWN_AWAY_BYTES_MAX {
        return Err(Refused::too_large(bytes_max));
    }
    tokio::time::timeout(within, read_all(body, bytes_max)).await.unwrap_or_else(|_| Err(Refused::too_slow()))
}

async fn read_all(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Refused> {
    let mut whole = BytesMut::new();
    let mut count = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refused::new(
                axum::http::StatusCode::BAD_REQUEST,
                "request",
                format!("the body cannot be read: {error}"),
            )
        })?;
        let Ok(data) = frame.into_data() else { continue };
        count = count.saturating_add(data.len());
        if count > THROWN_AWAY_BYTES_MAX {
            break;
        }
        if count <= bytes_max {
            whole.extend_from_slice(&data);
        }
    }
    if count > bytes_max { Err(Refused::too_large(bytes_max)) } else { Ok(whole.freeze()) }
}

/// Whether the content is of `expected`, whatever its parameters.
pub(super) fn is_of(headers: &HeaderMap, expected: &str) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(expected)
}

/// Reads JSON of exactly the fields that `T` has.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refused> {
    use axum::http::StatusCode;
    if !is_of(headers, "application/json") {
        return Err(Refused::media_type("application/json"));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => Refused::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "fields",
            format!("the JSON is not what is needed: {error}"),
        ),
        Category::Syntax | Category::Eof | Category::Io => {
            Refused::new(StatusCode::BAD_REQUEST, "json", format!("the body is not JSON: {error}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_media_type_is_the_same_in_any_case_and_with_parameters_and_no_other() {
        let mut headers = HeaderMap::new();
        assert!(!is_of(&headers, "application/json"));
        for (value, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json-seq", false),
            ("text/json", false),
            (";application/json", false),
        ] {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_of(&headers, "application/json"), good, "{value}");
        }
    }
}
