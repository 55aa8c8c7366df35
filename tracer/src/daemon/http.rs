//! `/metrics`, `/healthz` and `/readyz`. Bounded in connections and in time; it answers from numbers that are there
//! and asks nobody.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::metrics::{Shared, page, plain};

/// Connections at the same time; for a further one the oldest is closed. A scraper that keeps its connection opens
/// another, and who opens many and says nothing keeps nobody out.
const CONNECTIONS: usize = 16;
/// How long those that are open may take to be answered before the oldest is closed for another.
const TURN: Duration = Duration::from_millis(2);
/// Longest time for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// Longest time for a connection, which may carry several scrapes.
const CONNECTION: Duration = Duration::from_mins(5);
/// Pause after a connection could not be accepted: descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(200);
/// Largest head of a request, bytes.
const MAX_HEAD: usize = 8192;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until the program ends.
pub(super) async fn serve(listener: Option<TcpListener>, shared: Arc<Shared>) {
    let Some(listener) = listener else { return };
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = listener.accept().await;
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS {
            // Many that ask at the same moment are all accepted before the first of them is answered.
            sleep(TURN).await;
            open.retain(|connection| !connection.is_finished());
        }
        let is_full = open.len() >= CONNECTIONS || accepted.is_err();
        if let Some(oldest) = is_full.then(|| open.pop_front()).flatten() {
            oldest.abort();
        }
        match accepted {
            // A slow or broken client is its own problem.
            Ok((stream, _)) => {
                let connection = timeout(CONNECTION, connection(stream, Arc::clone(&shared)));
                open.push_back(tokio::spawn(connection).abort_handle());
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &shared);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer<B>(request: &Request<B>, shared: &Arc<Shared>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => metrics(request, shared),
        "/healthz" => health(shared.pulse().1, shared),
        "/readyz" => health(shared.is_ready(), shared),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}

fn metrics<B>(request: &Request<B>, shared: &Arc<Shared>) -> Response<Full<Bytes>> {
    shared.scrapes.fetch_add(1, Ordering::Relaxed);
    let Ok(text) = page(shared) else {
        return respond(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            "the metrics cannot be written\n".to_owned(),
        );
    };
    let accepted = request.headers().get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text")) {
        return respond(StatusCode::OK, OPENMETRICS, text);
    }
    respond(StatusCode::OK, PLAIN, plain(&text))
}

/// What is wrong stands in the body either way: less evidence is a warning, not an outage.
fn health(good: bool, shared: &Shared) -> Response<Full<Bytes>> {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut lines = vec![if good { "ok".to_owned() } else { "not ok".to_owned() }];
    lines.extend(shared.problems());
    let safe: Vec<_> = lines.iter().map(|line| crate::output::sanitize::line(line, 500)).collect();
    respond(status, TEXT, format!("{}\n", safe.join("\n")))
}

fn respond(status: StatusCode, content: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::hook;
    use crate::session::Pulse;

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_out() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::new(Arc::default(), crate::metrics::Notices::default(), 8));
        tokio::spawn(serve(Some(listener), shared));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /metr").await.unwrap();
            silent.push(stream);
        }
        let mut scrape = TcpStream::connect(address).await.unwrap();
        scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut page = String::new();
        timeout(HEAD / 2, scrape.read_to_string(&mut page)).await.unwrap().unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_ask_at_once_and_all_are_answered() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::new(Arc::default(), crate::metrics::Notices::default(), 8));
        let mut scrapes = Vec::new();
        for _ in 0..CONNECTIONS * 3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            scrapes.push(stream);
        }
        tokio::spawn(serve(Some(listener), shared));
        for mut scrape in scrapes {
            let mut page = String::new();
            timeout(HEAD, scrape.read_to_string(&mut page)).await.unwrap().unwrap();
            assert!(page.starts_with("HTTP/1.1 200") && page.contains("process_open_fds"), "{page}");
        }
    }

    fn get(path: &str, accept: &str, shared: &Arc<Shared>) -> (StatusCode, String) {
        let request = Request::get(path).header(ACCEPT, accept).body(()).unwrap();
        let response = answer(&request, shared);
        (response.status(), response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned())
    }

    #[test]
    fn each_path_answers_with_its_form() {
        let shared = Arc::new(Shared::new(Arc::default(), crate::metrics::Notices::default(), 8));
        assert_eq!(get("/healthz", "*/*", &shared).0, StatusCode::SERVICE_UNAVAILABLE);
        shared.beat(Pulse::default());
        assert_eq!(get("/healthz", "*/*", &shared).0, StatusCode::OK);
        assert_eq!(get("/readyz", "*/*", &shared).0, StatusCode::SERVICE_UNAVAILABLE, "no hook runs");
        shared.beat(Pulse { hooks: vec![hook("tcp_receive_reset", true)], ..Pulse::default() });
        assert_eq!(get("/readyz", "*/*", &shared).0, StatusCode::OK);
        assert_eq!(get("/metrics", "*/*", &shared), (StatusCode::OK, PLAIN.to_owned()));
        assert_eq!(get("/metrics", OPENMETRICS, &shared), (StatusCode::OK, OPENMETRICS.to_owned()));
        assert_eq!(get("/../../etc/passwd", "*/*", &shared).0, StatusCode::NOT_FOUND);
        shared.store.failing.store(true, Ordering::Relaxed);
        assert_eq!(get("/readyz", "*/*", &shared).0, StatusCode::SERVICE_UNAVAILABLE);
        let post = Request::post("/metrics").body(()).unwrap();
        assert_eq!(answer(&post, &shared).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
