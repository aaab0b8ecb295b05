//! The stream of documents that a query answers with.

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    use bytes::Bytes;
    use futures::StreamExt;
    use http::{HeaderMap, StatusCode};
    use http_body::Frame;
    use prost::Message;
    use tonic::Status;
    use tonic::codec::Codec;
    use tonic_prost::ProstCodec;

    const READ: Operation = Operation::reading("stream documents");

    /// A response body: its frames, then its end, or silence.
    struct Script {
        frames: VecDeque<Frame<Bytes>>,
        ends: bool,
    }

    impl http_body::Body for Script {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.frames.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn message(document: Option<&'static [u8]>) -> Frame<Bytes> {
        let response = RunQueryResponse { document: document.map(Bytes::from_static), ..Default::default() };
        let body = response.encode_to_vec();
        let mut frame = vec![0];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        Frame::data(frame.into())
    }

    fn status(code: &'static str) -> Frame<Bytes> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static(code));
        Frame::trailers(trailers)
    }

    fn documents(frames: Vec<Frame<Bytes>>, ends: bool) -> Documents {
        let decoder = ProstCodec::<RunQueryResponse, RunQueryResponse>::default().decoder();
        let script = Script { frames: frames.into(), ends };
        Documents::new(Streaming::new_response(decoder, script, StatusCode::OK, None, None), READ)
    }

    async fn check(mut documents: Documents, expected: Result<(), ErrorKind>) {
        for name in [&b"one"[..], b"two"] {
            let document = documents.next().await.expect("a document").expect("no error");
            assert_eq!(document, RawDocument(Bytes::from_static(name)));
        }
        let end = documents.next().await.transpose();
        assert_eq!(end.map(|end| assert_eq!(end, None)).map_err(|error| error.kind), expected);
        assert!(documents.next().await.is_none());
    }

    fn two() -> Vec<Frame<Bytes>> {
        vec![message(None), message(Some(b"one")), message(None), message(Some(b"two"))]
    }

    #[tokio::test(start_paused = true)]
    async fn documents_come_without_what_lies_between_them() {
        check(documents([two(), vec![message(None), status("0")]].into_iter().flatten().collect(), true), Ok(())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_without_a_status_is_an_error_that_passes() {
        check(documents(two(), true), Err(ErrorKind::Unavailable)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_behind_documents_is_an_error() {
        let frames = [two(), vec![status("8")]].into_iter().flatten().collect();
        check(documents(frames, true), Err(ErrorKind::ResourceExhausted)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_message_is_an_error() {
        let mut half = message(Some(b"three")).into_data().expect("data");
        half.truncate(7);
        let frames = [two(), vec![Frame::data(half)]].into_iter().flatten().collect();
        let mut documents = documents(frames, true);
        let mut count = 0;
        let error = loop {
            match documents.next().await.expect("an error comes before the end") {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((count, error.can_be_retried()), (2, true), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream() {
        let begin = Instant::now();
        check(documents(two(), false), Err(ErrorKind::DeadlineExceeded)).await;
        assert!(begin.elapsed() >= SILENCE_LIMIT && begin.elapsed() < 2 * SILENCE_LIMIT, "{:?}", begin.elapsed());
    }
}
