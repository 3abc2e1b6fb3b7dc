//! HTTP for whoever can reach the metrics address: so many connections, so long a request, and no longer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; further ones are closed as they come.
pub(crate) const CONNECTIONS_MAX: usize = 32;
/// For the line and the header fields of a request to come in, and between two requests.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// For the body of a request, which nobody reads, and for the answer to be made.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long one connection may stay.
const CONNECTION_WITHIN: Duration = Duration::from_secs(300);
/// Bytes of a request's line and header fields.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a request.
const HEADERS_MAX: usize = 64;
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The times of one service; the constants above, but for tests.
#[derive(Debug, Clone, Copy)]
struct Times {
    header: Duration,
    connection: Duration,
}

/// Serves until the task is dropped.
pub(crate) async fn serve(socket: TcpListener, routes: Router) {
    serve_within(socket, routes, Times { header: HEADER_WITHIN, connection: CONNECTION_WITHIN }).await;
}

async fn serve_within(socket: TcpListener, routes: Router, times: Times) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let routes = routes.clone();
        tokio::spawn(async move {
            let _place = place;
            // How it ended is the peer's business.
            drop(tokio::time::timeout(times.connection, one(stream, routes, times)).await);
        });
    }
}

async fn one(stream: TcpStream, routes: Router, times: Times) {
    let service = service_fn(move |request: Request<Incoming>| {
        let routes = TowerToHyperService::new(routes.clone());
        async move {
            let answer = tokio::time::timeout(ANSWER_WITHIN, routes.call(request.map(Body::new))).await;
            Ok::<Response, Infallible>(match answer {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.header)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const DEADLINE: Duration = Duration::from_secs(20);

    async fn started(times: Times) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let routes = Router::new().route("/healthz", get(|| async { "ok\n" }));
        tokio::spawn(serve_within(socket, routes, times));
        address
    }

    /// What the service says to `request`, up to the close; empty when it closes without a word.
    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut said = Vec::new();
        let exchange = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut said).await
        };
        drop(tokio::time::timeout(DEADLINE, exchange).await.expect("it answers or closes"));
        String::from_utf8_lossy(&said).into_owned()
    }

    const GET: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const USUAL: Times = Times { header: HEADER_WITHIN, connection: CONNECTION_WITHIN };

    #[tokio::test]
    async fn a_request_is_answered_and_a_large_one_is_not() {
        let address = started(USUAL).await;
        assert!(ask(address, GET).await.ends_with("ok\n"));
        let huge = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(HEADER_BYTES_MAX));
        assert!(ask(address, &huge).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_closed() {
        let brief = Duration::from_millis(50);
        let address = started(Times { header: brief, ..USUAL }).await;
        assert!(!ask(address, "GET /heal").await.contains("200"));
        let address = started(Times { connection: brief, ..USUAL }).await;
        assert_eq!(ask(address, "").await, "");
    }

    #[tokio::test]
    async fn more_connections_than_the_bound_are_closed_and_places_come_back() {
        let address = started(USUAL).await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            held.push(stream);
        }
        assert_eq!(ask(address, GET).await, "");
        held.clear();
        let again = async {
            while !ask(address, GET).await.ends_with("ok\n") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, again).await.expect("the places come back");
    }
}
