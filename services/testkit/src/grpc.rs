//! Methods of any service, called with an empty request: to see who is let in.

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
    let mut request = Request::new(());
    if let Some(value) = token.and_then(|token| format!("Bearer {token}").parse().ok()) {
        request.metadata_mut().insert("authorization", value);
    }
    let path = PathAndQuery::from_static(method.path);
    let mut grpc = Grpc::new(channel.clone());
    if let Err(error) = grpc.ready().await {
        return Status::from_error(error.into()).code();
    }
    let called = if method.streams {
        grpc.server_streaming(request, path, Empty).await.map(drop)
    } else {
        grpc.unary(request, path, Empty).await.map(drop)
    };
    called.err().map_or(Code::Ok, |status| status.code())
}

/// No field is said, and none is read.
struct Empty;

impl Codec for Empty {
    type Encode = ();
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

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use bytes::Buf as _;
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
