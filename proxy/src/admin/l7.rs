//! L7 settings to and from messages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::convert::{invalid, missing};
use crate::{
    http::Tls,
    spec::{Check, HealthCheck, L7, Protocol},
};

fn milliseconds(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms.into()))
}

fn to_milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn text<T: From<String>>(text: &str) -> Option<T> {
    (!text.is_empty()).then(|| text.to_owned().into())
}

pub(super) fn parse(message: &pb::L7) -> Result<L7, Status> {
    let file = |field: &str, path: &str| text(path).ok_or_else(|| missing(field));
    let backend_name = text::<String>(&message.backend_name)
        .map(|name| {
            name.parse()
                .map_err(|e| invalid("l7.backend_name", format!("{name:?}: {e}")))
        })
        .transpose()?;
    Ok(L7 {
        certificate: file("l7.certificate", &message.certificate)?,
        key: file("l7.key", &message.key)?,
        protocol: match message.protocol() {
            pb::BackendProtocol::Http1 => Protocol::Http1,
            pb::BackendProtocol::H2c => Protocol::H2c,
            pb::BackendProtocol::H2 => Protocol::H2,
        },
        backend_ca: text(&message.backend_ca),
        backend_name,
        client_ca: text(&message.client_ca),
        max_body: message.max_body_bytes,
        response_timeout: milliseconds(message.response_timeout_ms),
        max_streams: Some(message.max_streams).filter(|n| *n > 0),
        max_requests: Some(message.max_requests).filter(|n| *n > 0),
        retries: message.retries,
        health: message.health.as_ref().map(health).transpose()?,
        slow_start: message
            .slow_start_ms
            .map(|ms| Duration::from_millis(ms.into())),
        access_log: message.access_log.unwrap_or(1),
    })
}

fn health(message: &pb::HealthCheck) -> Result<HealthCheck, Status> {
    Ok(HealthCheck {
        check: match message.check() {
            pb::Check::Tcp => Check::Tcp,
            pb::Check::Http => Check::Http,
            pb::Check::Grpc => Check::Grpc,
            pb::Check::Unspecified => return Err(missing("l7.health.check")),
        },
        path: text(&message.path),
        service: text(&message.service),
        interval: milliseconds(message.interval_ms),
        timeout: milliseconds(message.timeout_ms),
    })
}

pub(super) fn message(l7: &L7, tls: Option<&Tls>) -> pb::L7 {
    let path = |path: &std::path::Path| path.display().to_string();
    let optional = |p: &Option<std::path::PathBuf>| p.as_deref().map(path).unwrap_or_default();
    pb::L7 {
        certificate: path(&l7.certificate),
        key: path(&l7.key),
        protocol: match l7.protocol {
            Protocol::Http1 => pb::BackendProtocol::Http1,
            Protocol::H2c => pb::BackendProtocol::H2c,
            Protocol::H2 => pb::BackendProtocol::H2,
        }
        .into(),
        backend_ca: optional(&l7.backend_ca),
        backend_name: l7
            .backend_name
            .clone()
            .map(String::from)
            .unwrap_or_default(),
        client_ca: optional(&l7.client_ca),
        max_body_bytes: l7.max_body,
        response_timeout_ms: l7.response_timeout.map_or(0, to_milliseconds),
        max_streams: l7.max_streams.unwrap_or(0),
        max_requests: l7.max_requests.unwrap_or(0),
        retries: l7.retries,
        health: l7.health.as_ref().map(health_message),
        slow_start_ms: l7.slow_start.map(to_milliseconds),
        access_log: Some(l7.access_log),
        certificate_status: tls.map(certificate_status),
    }
}

fn health_message(health: &HealthCheck) -> pb::HealthCheck {
    pb::HealthCheck {
        check: match health.check {
            Check::Tcp => pb::Check::Tcp,
            Check::Http => pb::Check::Http,
            Check::Grpc => pb::Check::Grpc,
        }
        .into(),
        path: health.path.clone().unwrap_or_default(),
        service: health.service.clone().unwrap_or_default(),
        interval_ms: health.interval.map_or(0, to_milliseconds),
        timeout_ms: health.timeout.map_or(0, to_milliseconds),
    }
}

pub(super) fn certificate_status(tls: &Tls) -> pb::CertificateStatus {
    let unix = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    let current = tls.current();
    pb::CertificateStatus {
        not_after_unix_s: current.as_ref().map(|c| unix(c.not_after())),
        loaded_unix_s: current.as_ref().map(|c| unix(c.loaded)),
        error: tls.error().unwrap_or_default(),
        tried_unix_s: tls.tried().map(unix),
    }
}
