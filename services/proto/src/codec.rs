//! How messages are encoded for gRPC: as tonic does it, in a buffer that is as long as the message from the beginning. One that grows is copied again and again, which of
//! large messages is most of the work. And decoded: what is no message is told from what else fails.

use std::{error::Error as _, marker::PhantomData, sync::Arc};

use prost::{DecodeError, Message};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// That of all methods.
#[derive(Debug)]
pub struct Reserving<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Reserving<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Reserving<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ReservingEncoder<T>;
    type Decoder = TellingDecoder<U>;

    fn encoder(&mut self) -> ReservingEncoder<T> {
        ReservingEncoder(PhantomData)
    }

    fn decoder(&mut self) -> TellingDecoder<U> {
        TellingDecoder(PhantomData)
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct ReservingEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for ReservingEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(message.encoded_len());
        // There is room for it, and nothing else can fail.
        message
            .encode(to)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct TellingDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for TellingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(from).map(Some).map_err(|error| {
            // Of an answer it is the service's fault; of a request the server says whose it is, by the source.
            let mut status = Status::internal(error.to_string());
            status.set_source(Arc::new(error));
            status
        })
    }
}

/// Whether a message was none of its kind, or was cut off.
#[must_use]
pub fn is_broken(status: &Status) -> bool {
    status
        .source()
        .is_some_and(<dyn std::error::Error>::is::<DecodeError>)
}
