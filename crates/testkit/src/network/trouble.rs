//! What can go wrong, and the answers that come then.
use crate::server::refusal;
use futures::stream;
use http::{header, header::HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use openmcp_reconcile::cluster::Reply;
use std::time::Duration;
use tower::BoxError;

/// When the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The effect with this number does not happen.
    Before(usize),
    /// It happens; its answer is lost.
    After(usize),
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Nothing listens.
    Refused,
    /// It never gets an answer, nor does the server get it.
    Silent,
    /// The server does it; the answer is lost.
    AnswerLost,
    /// The server does it; it never gets an answer.
    Unanswered,
    /// The server does it; the answer ends in the middle.
    Truncated,
    /// It takes this time more.
    Slow(Duration),
    /// The server answers this status, with `Retry-After` in seconds if there is one.
    Status(u16, Option<u32>),
}

/// What becomes of watches that are open or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchTrouble {
    /// Nothing comes any more, and the connection stays open.
    Stalled,
    /// Bookmarks do not come.
    NoBookmarks,
    /// Every n-th event is missed.
    Missed(u32),
    /// Every event comes twice.
    Doubled,
    /// Two events at a time come in the other order.
    Reordered,
    /// Each event takes this time, one after the other.
    Late(Duration),
}

/// The server's own refusal.
pub(super) fn status(code: u16, retry_after: Option<u32>) -> Reply {
    let mut reply = refusal(code);
    if let Some(seconds) = retry_after {
        reply
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// Half of an answer, and then the end of the connection.
pub(super) async fn truncated(reply: Reply) -> Reply {
    let (parts, body) = reply.into_parts();
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let half = bytes.slice(..bytes.len() / 2);
    let frames = [
        Ok(Frame::data(half)),
        Err(BoxError::from("unexpected end of the body")),
    ];
    Reply::from_parts(parts, StreamBody::new(stream::iter(frames)).boxed_unsync())
}
