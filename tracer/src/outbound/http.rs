//! One POST over HTTP/1.1, without TLS: a connection each, bounded in time and in what is read of the answer. Follows
//! no redirection, and knows nothing of what it carries.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;
/// Largest head of an answer, bytes.
const MAX_HEAD: usize = 16 << 10;

/// Where a POST goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    authority: String,
    target: String,
}

impl Endpoint {
    /// Understands `http://HOST[:PORT][/PATH]`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("\"{url}\" is no address: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "\"{url}\": https is not spoken; name a forwarder on this host by http, or let a command send it"
                ));
            }
            _ => return Err(format!("\"{url}\" does not begin with http://")),
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| format!("\"{url}\" names no host"))?;
        if authority.as_str().contains('@') {
            return Err(format!("\"{url}\": a name and a password are not sent"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { host, port, authority: authority.as_str().to_owned(), target })
    }

    /// The same host with another path behind what is there: `/v1/logs`.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        Self { target: format!("{}{path}", self.target.trim_end_matches('/')), ..self.clone() }
    }

    /// Port of the receiver.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// What the receiver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Bytes,
}

/// Why nothing was said.
#[derive(Debug, Error)]
pub enum PostError {
    /// No connection.
    #[error("cannot connect to {authority}: {source}")]
    Connect {
        /// The receiver.
        authority: String,
        /// The reason.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("{authority} does not speak HTTP/1.1: {source}")]
    Http {
        /// The receiver.
        authority: String,
        /// The reason.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("{authority} did not answer within {} s", limit.as_secs())]
    Slow {
        /// The receiver.
        authority: String,
        /// The time it had.
        limit: Duration,
    },
}

/// Sends `body` and waits for the answer, at most `limit` for all of it.
pub async fn post(
    endpoint: &Endpoint,
    content_type: &'static str,
    body: Bytes,
    limit: Duration,
) -> Result<Answer, PostError> {
    let slow = |_| PostError::Slow { authority: endpoint.authority.clone(), limit };
    timeout(limit, converse(endpoint, content_type, body)).await.map_err(slow)?
}

async fn converse(endpoint: &Endpoint, content_type: &'static str, body: Bytes) -> Result<Answer, PostError> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
    let stream =
        stream.map_err(|source| PostError::Connect { authority: endpoint.authority.clone(), source })?;
    exchange(endpoint, content_type, body, stream)
        .await
        .map_err(|source| PostError::Http { authority: endpoint.authority.clone(), source })
}

async fn exchange(
    endpoint: &Endpoint,
    content_type: &'static str,
    body: Bytes,
    stream: TcpStream,
) -> hyper::Result<Answer> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let mut request = Request::post(endpoint.target.as_str()).body(Full::new(body)).unwrap_or_default();
    let headers = request.headers_mut();
    let host = hyper::header::HeaderValue::from_str(&endpoint.authority);
    headers.insert(HOST, host.unwrap_or_else(|_| hyper::header::HeaderValue::from_static("")));
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (USER_AGENT, concat!("rstscope/", env!("CARGO_PKG_VERSION"))),
        (CONNECTION, "close"),
    ] {
        headers.insert(name, hyper::header::HeaderValue::from_static(value));
    }
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        // Only its beginning matters, and only if it can be had.
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), body })
    };
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        ended = connection => match ended {
            // The connection is done before its answer has been taken up.
            Ok(()) => answered.await,
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_are_understood_or_refused_with_the_reason() {
        let endpoint = Endpoint::parse("http://127.0.0.1:9000/hook?a=1").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("127.0.0.1", 9000));
        assert_eq!(endpoint.target, "/hook?a=1");
        let named = Endpoint::parse("http://collector").unwrap();
        assert_eq!((named.port, named.join("/v1/logs").target.as_str()), (80, "/v1/logs"));
        assert_eq!(Endpoint::parse("http://[::1]:4318/x/").unwrap().join("/v1/logs").target, "/x/v1/logs");
        assert_eq!(Endpoint::parse("http://[::1]:4318").unwrap().host, "::1");
        for (url, word) in [
            ("https://a/", "https"),
            ("ftp://a/", "http://"),
            ("/hook", "http://"),
            ("http://user:secret@a/", "password"),
            ("http://a b/", "no address"),
            ("http://a/\r\nX: y", "no address"),
        ] {
            assert!(Endpoint::parse(url).unwrap_err().contains(word), "{url}");
        }
    }

    /// Answers one connection with these bytes, and gives what was asked.
    fn receiver(answer: &'static [u8]) -> (Endpoint, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut buffer = [0; 4096];
            while !asked.ends_with(b"the body") {
                let length = stream.read(&mut buffer).unwrap();
                assert!(length > 0, "{asked:?}");
                asked.extend_from_slice(&buffer[..length]);
            }
            stream.write_all(answer).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (Endpoint::parse(&format!("http://127.0.0.1:{port}/hook")).unwrap(), thread)
    }

    async fn sent(endpoint: &Endpoint) -> Result<Answer, PostError> {
        post(endpoint, "application/json", Bytes::from_static(b"the body"), Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn a_post_arrives_whole_and_the_answer_is_read() {
        let (endpoint, receiver) =
            receiver(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy");
        let answer = sent(&endpoint).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.retry_after), (503, Some(Duration::from_secs(7))));
        assert_eq!(&answer.body[..], b"busy");
        let asked = receiver.join().unwrap();
        assert!(asked.starts_with("POST /hook HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("content-length: 8\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {}\r\n", endpoint.authority)), "{asked}");
    }

    #[tokio::test]
    async fn whatever_a_receiver_answers_is_an_answer_or_an_error() {
        for answer in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut"] {
            let (endpoint, receiver) = receiver(answer);
            if let Ok(answer) = sent(&endpoint).await {
                assert_eq!(answer.status, StatusCode::OK);
            }
            receiver.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_receiver_that_hangs_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let sent = post(&endpoint, "text/plain", Bytes::new(), Duration::from_millis(50)).await;
        assert!(matches!(sent, Err(PostError::Slow { .. })), "{sent:?}");
        drop(listener);
        let sent = post(&endpoint, "text/plain", Bytes::new(), Duration::from_secs(5)).await;
        assert!(matches!(sent, Err(PostError::Connect { .. })), "{sent:?}");
    }
}
