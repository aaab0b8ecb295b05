//! The stream of documents that a query answers with.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use firebackup_model::document::RawDocument;
use firebackup_model::error::{ErrorKind, PortError};
use futures::Stream;
use tokio::time::{Instant, Sleep};
use tonic::Streaming;

use crate::proto::RunQueryResponse;
use crate::status::Operation;

/// How long a query may say nothing; Firestore ends a query itself long before.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// A query's documents as they come. It ends after its first error. Each document is a slice of the receive buffer.
pub(crate) struct Documents {
    responses: Streaming<RunQueryResponse>,
    operation: Operation,
    /// Runs while we wait: a server that says nothing is told from a slow reader.
    silence: Pin<Box<Sleep>>,
    waits: bool,
    ended: bool,
}

impl Documents {
    pub(crate) fn new(responses: Streaming<RunQueryResponse>, operation: Operation) -> Self {
        let silence = Box::pin(tokio::time::sleep(SILENCE_LIMIT));
        Self { responses, operation, silence, waits: false, ended: false }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<PortError> {
        if !self.waits {
            self.waits = true;
            self.silence.as_mut().reset(Instant::now() + SILENCE_LIMIT);
        }
        self.silence.as_mut().poll(cx).map(|()| {
            let message = format!("the server said nothing for {} seconds", SILENCE_LIMIT.as_secs());
            PortError::new(ErrorKind::DeadlineExceeded, self.operation.name, message)
        })
    }
}

impl Stream for Documents {
    type Item = Result<RawDocument, PortError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let error = loop {
            match Pin::new(&mut this.responses).poll_next(cx) {
                Poll::Ready(Some(Ok(response))) => {
                    this.waits = false;
                    if let Some(document) = response.document {
                        return Poll::Ready(Some(Ok(RawDocument(document))));
                    }
                }
                Poll::Ready(Some(Err(status))) => break this.operation.failed(status),
                Poll::Ready(None) => {
                    this.ended = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => match this.poll_silence(cx) {
                    Poll::Ready(error) => break error,
                    Poll::Pending => return Poll::Pending,
                },
            }
        };
        this.ended = true;
        Poll::Ready(Some(Err(error)))
    }
}
