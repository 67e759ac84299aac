//! Reflection: what this package's services are, and no other's of the same build.

use tonic_reflection::server::{
    Builder, Error,
    v1::{ServerReflection, ServerReflectionServer},
};

use super::health::service_names;

/// gRPC's, which every server has.
const HEALTH: &str = "grpc.health.v1.Health";

/// Of the package's services, and health.
pub(super) fn of(package: &str) -> Result<ServerReflectionServer<impl ServerReflection>, Error> {
    let descriptors = mc_proto::PACKAGES.iter().find(|(name, _)| *name == package);
    let mut builder = Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(HEALTH);
    if let Some((_, descriptors)) = descriptors {
        builder = builder.register_encoded_file_descriptor_set(descriptors);
    }
    for name in service_names(package) {
        builder = builder.with_service_name(name);
    }
    builder.build_v1()
}
