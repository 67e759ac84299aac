//! The wire definitions of every service, generated from the `.proto` files beside this crate's
//! sources (`build/`): messages and gRPC, who may call which method, its REST path, OpenAPI. Nothing else lives here.

pub mod codec;
mod method;

/// A message whose definition says which of its fields are secret, or whose fields have such messages.
pub trait Secrets {
    /// Gives each secret with the name of its field; one that was not sent may be given as empty.
    fn each_secret(&self, each: &mut dyn FnMut(&'static str, &[u8]));
}

pub use method::{Access, AccountType, Level, Method, Rest};

/// The admin API of mc-proxy.
pub mod mcproxy {
    /// Version 1.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("metacircular.mcproxy.v1");
    }
}

/// A small service to test the foundation with.
#[cfg(feature = "examples")]
pub mod example {
    /// Version 1.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("metacircular.example.v1");
    }
}

/// The service to begin others with (`services/skeleton`).
#[cfg(feature = "examples")]
pub mod guestbook {
    /// Version 1.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("metacircular.guestbook.v1");
    }
}

/// Identity and access.
pub mod mcias {
    /// Version 1.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("metacircular.mcias.v1");
    }
}

/// Certificates and secrets behind a seal.
pub mod metacrypt {
    /// Version 1.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("metacircular.metacrypt.v1");
    }
}

/// The encoded `FileDescriptorSet` of all services (the examples are among them with their feature), for REST.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// For each package that has services the encoded `FileDescriptorSet` of it and of what it imports, for gRPC reflection.
pub const PACKAGES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/packages.rs"));

/// An OpenAPI 3.1 document for each package, by its name: a JSON object.
pub const OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// Every method of every service.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));
