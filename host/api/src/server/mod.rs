//! Connections: taken in, spoken HTTP with, and ended.
//!
//! A caller that says nothing, or says it slowly, holds a connection for a while and nothing else;
//! there are only so many at a time.

pub mod startup;
pub mod tls;

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

use crate::TrustedProxies;
use crate::server::tls::Tls;

/// The most connections at a time; further ones wait in the system's queue.
pub const CONNECTIONS: usize = 1024;

/// The most of one client's: half, so that whoever takes all that they can get leaves as many to
/// others. One more is closed at once.
const SHARE: usize = CONNECTIONS / 2;

/// How long connections may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// For a TLS handshake, for the head of a request, and for the next request.
    pub head: Duration,
    /// For requests that were begun when the service was told to stop.
    pub grace: Duration,
}

/// How a connection of HTTP/2 begins.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// By which it is told from any request of HTTP/1.
const HTTP_2: &[u8] = b"PRI";

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves until `stop` ends, then lets requests that were begun be answered, within the grace;
/// whether all were.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    tls: Option<Tls>,
    proxies: TrustedProxies,
    patience: ConnectionTimeouts,
    stop: impl Future<Output = ()>,
) -> bool {
    let graceful = GracefulShutdown::new();
    let (places, shares) = (
        Arc::new(Semaphore::new(CONNECTIONS)),
        Arc::new(ConnectionCounts::default()),
    );
    let (stopping, stopped) = watch::channel(false);
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        // A trusted proxy's connections are those of many clients.
        let share = if proxies.contains(peer.ip()) {
            None
        } else {
            let Some(share) = shares.take(peer) else {
                continue;
            };
            Some(share)
        };
        let connection = Connection {
            peer,
            proxies: proxies.clone(),
            app: app.clone(),
            watcher: graceful.watcher(),
            stopped: stopped.clone(),
            head: patience.head,
        };
        let tls = tls.clone();
        tokio::spawn(async move {
            connection.serve(stream, tls).await;
            drop((place, share));
        });
    }
    drop(listener);
    let _ = stopping.send(true);
    timeout(patience.grace, graceful.shutdown()).await.is_ok()
}

/// A failure to take in a connection is that connection's, unless the process has no more files:
/// then it helps to wait.
async fn rest_after(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    ) {
        return;
    }
    tracing::error!("cannot take in a connection: {error}");
    sleep(Duration::from_millis(200)).await;
}

/// How many connections each client has.
#[derive(Debug, Default)]
struct ConnectionCounts(Mutex<HashMap<Client, usize>>);

/// One connection of a client's, counted until this is dropped.
#[derive(Debug)]
struct CountedConnection {
    shares: Arc<ConnectionCounts>,
    client: Client,
}

impl ConnectionCounts {
    /// Counts a connection, unless its client has all that it may.
    fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<CountedConnection> {
        let client = Client::at(peer.ip());
        let mut counts = self.counts();
        let count = counts.entry(client.clone()).or_default();
        if *count == SHARE {
            return None;
        }
        *count += 1;
        if *count == SHARE {
            tracing::warn!(
                "{} has {SHARE} connections, as many as one address may have",
                peer.ip()
            );
        }
        drop(counts);
        Some(CountedConnection {
            shares: Arc::clone(self),
            client,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut counts = self.shares.counts();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// One connection.
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
        // Answers are small and whole: waiting for more of them only delays.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            let protocol = tokio::select! {
                protocol = protocol(&stream, self.head) => protocol,
                _ = self.stopped.wait_for(|stopped| *stopped) => None,
            };
            if let Some(protocol) = protocol {
                self.speak(stream, protocol).await;
            }
            return;
        };
        let handshake = tokio::select! {
            handshake = timeout(self.head, tls.accept(stream)) => handshake,
            _ = self.stopped.wait_for(|stopped| *stopped) => return,
        };
        // What others send to a port is their affair, and no line of the log at each.
        match handshake {
            Ok(Ok(stream)) => {
                let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.speak(
                    stream,
                    if is_http_2 {
                        Protocol::Http2
                    } else {
                        Protocol::Http1
                    },
                )
                .await;
            }
            Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn speak(
        mut self,
        mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        protocol: Protocol,
    ) {
        if protocol == Protocol::Http1 {
            return self.answer(stream, protocol).await;
        }
        // Read here, because what takes it otherwise waits for it for ever.
        let mut preface = [0; PREFACE.len()];
        let read = tokio::select! {
            read = timeout(self.head, stream.read_exact(&mut preface)) => read,
            _ = self.stopped.wait_for(|stopped| *stopped) => return,
        };
        if matches!(read, Ok(Ok(_))) && preface == *PREFACE {
            let (rest, answers) = tokio::io::split(stream);
            self.answer(
                tokio::io::join(Cursor::new(preface).chain(rest), answers),
                protocol,
            )
            .await;
        }
    }

    async fn answer(
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
        // What goes wrong with a connection is its caller's; requests have lines of their own.
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!("a connection ended: {error}");
        }
    }
}

/// What a caller begins to speak; nothing if it says nothing in time, or hangs up.
async fn protocol(stream: &TcpStream, patience: Duration) -> Option<Protocol> {
    let begun = Instant::now();
    let mut first = [0; HTTP_2.len()];
    loop {
        let left = patience.checked_sub(begun.elapsed())?;
        let read = timeout(left, stream.peek(&mut first)).await.ok()?.ok()?;
        match first.get(..read)? {
            [] => return None,
            HTTP_2 => return Some(Protocol::Http2),
            // Not yet to be told apart from one of `POST` or `PUT`.
            begin if HTTP_2.starts_with(begin) => sleep(Duration::from_millis(5)).await,
            _ => return Some(Protocol::Http1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_half_of_the_connections_and_others_the_rest() {
        let shares = Arc::new(ConnectionCounts::default());
        let peer = |address: &str| SocketAddr::new(address.parse().unwrap(), 1);
        let mut taken: Vec<CountedConnection> = (0..SHARE)
            .map(|_| shares.take(peer("192.0.2.1")).unwrap())
            .collect();
        assert!(shares.take(peer("192.0.2.1")).is_none());
        assert!(shares.take(peer("192.0.2.2")).is_some());
        taken.pop();
        assert!(shares.take(peer("192.0.2.1")).is_some());
        drop(taken);
        assert!(shares.counts().is_empty());
    }
}
