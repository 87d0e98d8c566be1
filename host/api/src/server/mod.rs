//! Connections: accepting, serving HTTP/1 or HTTP/2, and graceful shutdown.
//!
//! A slow or silent client holds a connection for a limited time, and the number of connections is
//! limited. axum's own listener has no such limits.
//!
//! HTTP/2 is negotiated by ALPN over TLS, and detected by its preface on plain connections. The
//! preface is read here, because hyper waits for it without a timeout (hyper issue 3962).

pub mod startup;
pub mod tls;

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::Layer;

use rostro_service::executor::Client;

use crate::request::caller::TrustedProxies;
use crate::server::tls::Tls;

/// Largest number of connections. Further ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 1024;

/// Largest number of connections of one client: half, so that one client leaves as many to others.
/// Further ones are closed at once.
const MAX_CLIENT_CONNECTIONS: usize = MAX_CONNECTIONS / 2;

/// Timeouts of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// Time for a TLS handshake, for the head of a request, and between requests.
    pub head: Duration,
    /// Time for started requests after the service is told to stop.
    pub grace: Duration,
}

/// First bytes of an HTTP/2 connection (RFC 9113, section 3.4). No HTTP/1 request begins with them.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves until `stop` ends, then waits for started requests for at most the grace. Returns true if
/// all of them were answered.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    tls: Option<Tls>,
    proxies: TrustedProxies,
    timeouts: ConnectionTimeouts,
    stop: impl Future<Output = ()>,
) -> bool {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let counts = Arc::new(ConnectionCounts::default());
    let (stopping, stopped) = watch::channel(false);
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        // Connections of a trusted proxy belong to many clients.
        let counted = if proxies.contains(peer.ip()) {
            None
        } else {
            let Some(counted) = counts.add(peer) else {
                continue;
            };
            Some(counted)
        };
        let connection = Connection {
            peer,
            proxies: proxies.clone(),
            app: app.clone(),
            watcher: graceful.watcher(),
            stopped: stopped.clone(),
            head: timeouts.head,
        };
        let tls = tls.clone();
        tokio::spawn(async move {
            connection.serve(stream, tls).await;
            drop((permit, counted));
        });
    }
    drop(listener);
    let _ = stopping.send(true);
    timeout(timeouts.grace, graceful.shutdown()).await.is_ok()
}

/// Waits after an error of `accept`, unless only that connection failed. Others, such as too many
/// open files, need time.
async fn pause_after(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    ) {
        return;
    }
    tracing::error!("cannot accept a connection: {error}");
    sleep(Duration::from_millis(200)).await;
}

/// Number of connections of each client.
#[derive(Debug, Default)]
struct ConnectionCounts(Mutex<HashMap<Client, usize>>);

/// Connection of a client that is counted until this is dropped.
#[derive(Debug)]
struct CountedConnection {
    counts: Arc<ConnectionCounts>,
    client: Client,
}

impl ConnectionCounts {
    /// Counts a connection. Returns `None` if the client has reached its limit.
    fn add(self: &Arc<Self>, peer: SocketAddr) -> Option<CountedConnection> {
        let client = Client::at(peer.ip());
        let mut counts = self.lock();
        let count = counts.entry(client.clone()).or_default();
        if *count == MAX_CLIENT_CONNECTIONS {
            return None;
        }
        *count += 1;
        if *count == MAX_CLIENT_CONNECTIONS {
            tracing::warn!(
                "{} has {MAX_CLIENT_CONNECTIONS} connections, as many as one address may have",
                peer.ip()
            );
        }
        drop(counts);
        Some(CountedConnection {
            counts: Arc::clone(self),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// One accepted connection.
struct Connection {
    peer: SocketAddr,
    proxies: TrustedProxies,
    app: Router,
    watcher: Watcher,
    stopped: watch::Receiver<bool>,
    head: Duration,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream, tls: Option<Tls>) {
        // Answers are small and written at once, so that Nagle's algorithm would only delay them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            let (reader, writer) = stream.into_split();
            return self.detect_and_serve(reader, writer, None).await;
        };
        let handshake = tokio::select! {
            handshake = timeout(self.head, tls.accept(stream)) => handshake,
            _ = self.stopped.wait_for(|stopped| *stopped) => return,
        };
        // Scanners cause many failures, which are not worth a line of the log each.
        match handshake {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                let (reader, writer) = tokio::io::split(stream);
                self.detect_and_serve(reader, writer, Some(Protocol::Http2))
                    .await;
            }
            Ok(Ok(stream)) => self.serve_http(stream, Protocol::Http1).await,
            Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    /// Reads the start of a connection, and serves the protocol that it shows. Closes the
    /// connection if the start does not arrive in time, or shows another protocol than the expected
    /// one.
    async fn detect_and_serve(
        mut self,
        mut reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        expected: Option<Protocol>,
    ) {
        let start = tokio::select! {
            start = timeout(self.head, read_start(&mut reader)) => start,
            _ = self.stopped.wait_for(|stopped| *stopped) => return,
        };
        let Ok(Ok(start)) = start else { return };
        let protocol = if start.starts_with(PREFACE) {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        if start.is_empty() || expected.is_some_and(|expected| expected != protocol) {
            return;
        }
        let stream = tokio::io::join(Cursor::new(start).chain(reader), writer);
        self.serve_http(stream, protocol).await;
    }

    async fn serve_http(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        protocol: Protocol,
    ) {
        let builder = Builder::new(TokioExecutor::new());
        let mut builder = match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.head)
            .keep_alive_timeout(self.head)
            .max_concurrent_streams(64);
        let app = Extension(ConnectInfo(self.peer)).layer(Extension(self.proxies).layer(self.app));
        let service = TowerToHyperService::new(app);
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        // Errors of a connection are not worth a line of the log, because requests have their own.
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!("a connection ended: {error}");
        }
    }
}

/// Reads from a connection until the bytes equal [`PREFACE`], differ from it, or end.
async fn read_start(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(PREFACE.len());
    while start.len() < PREFACE.len() && PREFACE.starts_with(&start) {
        if reader.read_buf(&mut start).await? == 0 {
            break;
        }
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start is read until it is complete or is not the preface, also in pieces.
    #[tokio::test]
    async fn read_start_stops_at_first_difference() {
        for (first, second, length) in [
            (&b""[..], &b""[..], 0),
            (b"P", b"", 1),
            (b"P", b"OST / HTTP/1.1\r\n", 17),
            (b"GET / HTTP/1.1\r\n", b"host: x\r\n", 16),
            (b"PRI * HTTP/2.0\r\n", b"", 16),
            (b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n", 24),
            (PREFACE, b"settings", 24),
        ] {
            let start = read_start(&mut first.chain(second)).await.unwrap();
            let sent = [first, second].concat();
            assert_eq!(start, sent[..length], "{}", String::from_utf8_lossy(&sent));
        }
    }

    #[test]
    fn client_has_half_of_connections() {
        let counts = Arc::new(ConnectionCounts::default());
        let peer = |address: &str| SocketAddr::new(address.parse().unwrap(), 1);
        let mut counted: Vec<CountedConnection> = (0..MAX_CLIENT_CONNECTIONS)
            .map(|_| counts.add(peer("192.0.2.1")).unwrap())
            .collect();
        assert!(counts.add(peer("192.0.2.1")).is_none());
        assert!(counts.add(peer("192.0.2.2")).is_some());
        counted.pop();
        assert!(counts.add(peer("192.0.2.1")).is_some());
        drop(counted);
        assert!(counts.lock().is_empty());
    }
}
