//! The wire definitions of every service, generated from the `.proto` files beside this crate's
//! sources. Nothing else lives here.

/// The admin API of mc-proxy.
pub mod mcproxy {
    /// Version 1.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("metacircular.mcproxy.v1");
    }
}

/// The encoded `FileDescriptorSet` of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
