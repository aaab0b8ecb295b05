//! gRPC answers from bytes that are framed already.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

/// Chunks of framed messages, to be sent one after the other.
pub(super) type Chunks = Box<dyn Iterator<Item = Bytes> + Send>;

/// An answer of these chunks that ends well.
pub(super) fn of(chunks: Chunks) -> http::Response<Body> {
    let body = FramedBody { chunks, is_done: false };
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// An answer of one message.
pub(super) fn of_message(message: &impl Message) -> http::Response<Body> {
    let mut framed = BytesMut::new();
    put_frame(&mut framed, &message.encode_to_vec());
    of(Box::new(std::iter::once(framed.freeze())))
}

/// Appends a message as gRPC frames it: not compressed, its length, itself.
pub(super) fn put_frame(out: &mut BytesMut, message: &[u8]) {
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
}

struct FramedBody {
    chunks: Chunks,
    is_done: bool,
}

impl http_body::Body for FramedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(chunk) = self.chunks.next() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if std::mem::replace(&mut self.is_done, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }
}
