//! The last place before the network. A request that the gate let through waits for a connection, for TLS, for its turn:
//! if the process is stopped there and goes on when another one leads, nothing may leave any more (I7).
//!
//! Which bytes are a write cannot be seen here, so the whole connection ends. New ones are made for what comes after.
use crate::gate::Gate;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// A stream through which nothing is sent after the gate has ended, also when it is open again.
pub(super) struct Fenced<S> {
    stream: S,
    gate: Gate,
    term: u64,
}

impl<S> Fenced<S> {
    pub(super) fn new(stream: S, gate: Gate) -> Self {
        let term = gate.term();
        Self { stream, gate, term }
    }

    fn check(&self) -> io::Result<()> {
        if self.gate.has_ended_since(self.term) {
            let why = "this process has lost its lease since: nothing is sent here any more";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(())
    }
}

impl<S: Write + Unpin> Write for Fenced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Read + Unpin> Read for Fenced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: Connection> Connection for Fenced<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hyper_util::rt::TokioIo;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_was_let_through_before_the_gate_ended_does_not_leave_when_it_opens_again() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let gate = Gate::new();
        let mut fenced = Fenced::new(TokioIo::new(ours), gate.clone());
        let sent = poll_fn(|cx| Pin::new(&mut fenced).poll_write(cx, b"before")).await;
        assert_eq!(sent.unwrap(), 6);
        gate.end();
        gate.open_until(tokio::time::Instant::now() + std::time::Duration::from_secs(3600));
        let refused = poll_fn(|cx| Pin::new(&mut fenced).poll_write(cx, b"after")).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(fenced);
        let mut arrived = String::new();
        theirs.read_to_string(&mut arrived).await.unwrap();
        assert_eq!(arrived, "before");
    }
}
