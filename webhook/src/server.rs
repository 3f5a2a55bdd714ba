//! The admission port: TCP, TLS and HTTP with bounds on each, and an orderly end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures::future::BoxFuture;
use hyper_util::rt::TokioTimer;
use ringfence_certs::{Served, Tls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_io_timeout::TimeoutStream;

use crate::metrics::Metrics;
use crate::places::{Place, Places};
use crate::settings::Limits;

/// How long requests in flight may take to finish once it ends.
const FINISH: Duration = Duration::from_secs(10);
/// How long a connection that is at its end is still read, so that what the other end had sent by then meets no reset:
/// a client that sees the goodbye first sends it again elsewhere, one that sees the reset fails.
const LINGER: Duration = Duration::from_secs(2);
/// How much is held of what a connection sent and nobody has read yet, or of an answer that it does not read. API servers speak HTTP/1.1 to
/// webhooks, and read what they asked for; with so many connections as there may be, this is what bounds the memory.
const BUFFER: u32 = 64 << 10;
/// How often the other end of an HTTP/2 connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A server that listens, and can be told to end.
pub struct Server {
    listener: TcpListener,
    handle: Handle<SocketAddr>,
}

impl Server {
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)
            .map_err(|e| io::Error::new(e.kind(), format!("admission cannot listen on {address}: {e}")))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            handle: Handle::new(),
        })
    }

    /// # Errors
    /// If the system cannot say it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Ends it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.handle.clone())
    }

    /// Serves until it is stopped and what was in flight is answered.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub async fn serve(
        self,
        router: Router,
        served: &Served,
        tls: &Tls,
        limits: &Limits,
        metrics: &Metrics,
    ) -> io::Result<()> {
        let config = served.config(tls).map_err(io::Error::other)?;
        let gate = Gate {
            places: Places::new(limits.connections),
            metrics: metrics.clone(),
            idle: Duration::from_secs(limits.idle_seconds),
        };
        let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(config)))
            .handshake_timeout(Duration::from_secs(limits.handshake_seconds))
            .acceptor(gate);
        let mut server = axum_server::from_tcp(self.listener)?
            .acceptor(Counted {
                acceptor,
                metrics: metrics.clone(),
            })
            .handle(self.handle);
        let http = server.http_builder();
        http.http1()
            .timer(TokioTimer::new())
            .max_buf_size(BUFFER as usize)
            .header_read_timeout(Duration::from_secs(limits.header_seconds));
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(u32::try_from(limits.requests.saturating_mul(2)).unwrap_or(u32::MAX))
            .initial_stream_window_size(BUFFER)
            .initial_connection_window_size(2 * BUFFER)
            .max_send_buf_size(BUFFER as usize)
            .keep_alive_interval(KEEP_ALIVE)
            .max_header_list_size(16 << 10);
        // Who sends a request is asked where memory is shared out.
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        server.serve(service).await
    }
}

/// Ends a [`Server`].
#[derive(Clone)]
pub struct Stopper(Handle<SocketAddr>);

impl Stopper {
    /// No new connections from now on; requests in flight are answered.
    pub fn stop(&self) {
        self.0.graceful_shutdown(Some(FINISH));
    }
}

/// Counts the connections that come to no TLS.
#[derive(Clone)]
struct Counted<A> {
    acceptor: A,
    metrics: Metrics,
}

impl<A, S> Accept<TcpStream, S> for Counted<A>
where
    A: Accept<TcpStream, S, Future: Send + 'static>,
{
    type Stream = A::Stream;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(A::Stream, A::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (accepted, metrics) = (self.acceptor.accept(stream, service), self.metrics.clone());
        Box::pin(async move {
            accepted.await.inspect_err(|error| {
                let crowded = error.get_ref().is_some_and(|inner| inner.is::<Crowded>());
                metrics.connection_refused(if crowded { "crowded" } else { "tls" });
            })
        })
    }
}

/// All places are taken.
#[derive(Debug, thiserror::Error)]
#[error("too many connections")]
struct Crowded;

/// Lets in only so many connections, and none that stays silent for long.
#[derive(Clone)]
struct Gate {
    places: Arc<Places>,
    metrics: Metrics,
    idle: Duration,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Gate {
    type Stream = Connection;
    type Service = S;
    type Future = BoxFuture<'static, io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = stream
            .peer_addr()
            .map(|peer| self.places.take(peer.ip().to_canonical()));
        let (idle, metrics) = (self.idle, self.metrics.clone());
        Box::pin(async move {
            let place = place?.ok_or_else(|| {
                tracing::warn!("a connection is refused: there are as many as limits.connections allows");
                io::Error::other(Crowded)
            })?;
            stream.set_nodelay(true)?;
            let mut stream = TimeoutStream::new(stream);
            stream.set_read_timeout(Some(idle));
            stream.set_write_timeout(Some(idle));
            Ok((
                Connection {
                    stream: Box::pin(stream),
                    farewell: None,
                    place,
                    metrics,
                },
                service,
            ))
        })
    }
}

/// A connection that was let in; its place is free again when it is dropped.
struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    /// Runs out while it lingers.
    farewell: Option<Pin<Box<Sleep>>>,
    place: Place,
    metrics: Metrics,
}

impl Connection {
    /// Fails once the place is lost, whatever it is doing.
    fn keep(&self, context: &Context<'_>) -> io::Result<()> {
        if self.place.is_lost(context) {
            self.metrics.connection_refused("crowded");
            return Err(io::Error::other(Crowded));
        }
        Ok(())
    }
}

impl Connection {
    /// Counts a connection that is given up for its silence.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.metrics.connection_refused("silent");
        }
        result
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.keep(context)?;
        let result = ready!(self.stream.as_mut().poll_read(context, buffer));
        self.place.touch();
        Poll::Ready(self.noted(result))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Who reads no answers must not outlast the place.
        self.keep(context)?;
        let result = ready!(self.stream.as_mut().poll_write(context, bytes));
        Poll::Ready(self.noted(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    /// Ends the own side, then reads until the other end is done too, or [`LINGER`] is over.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.place.is_lost(context) {
            return Poll::Ready(Ok(())); // without a place there is nothing to wait for
        }
        if self.farewell.is_none() {
            ready!(self.stream.as_mut().poll_shutdown(context))?;
        }
        let mut farewell = match self.farewell.take() {
            Some(farewell) => farewell,
            None => Box::pin(tokio::time::sleep(LINGER)),
        };
        let mut scratch = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match self.stream.as_mut().poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())), // its end, or gone
                Poll::Pending => break,
            }
        }
        let over = farewell.as_mut().poll(context);
        self.farewell = Some(farewell);
        over.map(Ok)
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
