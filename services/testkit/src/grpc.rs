//! Methods of any service, called with an empty request, or with bytes that are none: to see who is let in, and what of him.

use mc_proto::Method;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// How a call ends; of a stream, how it begins.
pub async fn code(channel: &Channel, method: &Method, token: Option<&str>) -> Code {
    code_of(channel, method, token, &[]).await
}

/// The same, of what is said as it is.
pub async fn code_of(
    channel: &Channel,
    method: &Method,
    token: Option<&str>,
    message: &'static [u8],
) -> Code {
    let mut request = Request::new(message);
    if let Some(value) = token.and_then(|token| format!("Bearer {token}").parse().ok()) {
        request.metadata_mut().insert("authorization", value);
    }
    let path = PathAndQuery::from_static(method.path);
    let mut grpc = Grpc::new(channel.clone());
    if let Err(error) = grpc.ready().await {
        return Status::from_error(error.into()).code();
    }
    let called = if method.streams {
        grpc.server_streaming(request, path, Raw).await.map(drop)
    } else {
        grpc.unary(request, path, Raw).await.map(drop)
    };
    called.err().map_or(Code::Ok, |status| status.code())
}

/// What is said is written as it is, and nothing is read.
struct Raw;

impl Codec for Raw {
    type Encode = &'static [u8];
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = &'static [u8];
    type Error = Status;

    fn encode(&mut self, message: &'static [u8], to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use bytes::BufMut as _;
        to.put_slice(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use bytes::Buf as _;
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
