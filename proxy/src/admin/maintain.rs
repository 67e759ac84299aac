//! The kernel maps beside the database, the audit, and the ends of a daemon and of its firewall.

use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::{
    convert::audit_out,
    errors::{not_upgraded, refused},
    observe::predecessor,
};
use crate::{control::Control, firewall::DifferenceKind, store::Actor};

/// Audit rows of one answer, unless asked otherwise.
const DEFAULT_AUDIT: u32 = 100;
/// Audit rows of one answer at most.
const MAX_AUDIT: u32 = 10_000;

pub(super) fn dump(control: &Control, map: &str) -> Result<pb::DumpMapResponse, Status> {
    let entries = control.dump(map).map_err(refused)?;
    let entries = entries.into_iter().map(|e| pb::MapEntry {
        map: e.map,
        key: e.key,
        value: e.value,
    });
    Ok(pb::DumpMapResponse {
        entries: entries.collect(),
    })
}

pub(super) fn verify(control: &Control, repair: bool) -> Result<pb::VerifyMapsResponse, Status> {
    let (differences, checked) = control.verify(repair).map_err(refused)?;
    let differences = differences.into_iter().map(|d| pb::MapDifference {
        map: d.map.to_owned(),
        key: d.key,
        kind: match d.kind {
            DifferenceKind::Missing => "missing",
            DifferenceKind::Unexpected => "unexpected",
            DifferenceKind::Different => "different",
        }
        .to_owned(),
        detail: d.detail,
    });
    Ok(pb::VerifyMapsResponse {
        differences: differences.collect(),
        repaired: repair,
        checked,
    })
}

/// The latest changes; 0 is the default number of them.
pub(super) fn audit(control: &Control, limit: u32) -> Result<pb::ListAuditResponse, Status> {
    let limit = match limit {
        0 => DEFAULT_AUDIT,
        limit => limit.min(MAX_AUDIT),
    };
    let entries = control.audit_log(limit).map_err(refused)?;
    Ok(pb::ListAuditResponse {
        entries: entries.into_iter().map(audit_out).collect(),
    })
}

pub(super) fn upgrade(
    control: &Control,
    by: &Actor,
    force: bool,
) -> Result<pb::UpgradeResponse, Status> {
    let new = control.upgrade(by, force).map_err(|e| not_upgraded(&e))?;
    let predecessors = control.draining();
    Ok(pb::UpgradeResponse {
        pid: new.pid,
        version: new.version,
        old_pid: std::process::id(),
        old_version: env!("CARGO_PKG_VERSION").to_owned(),
        draining: predecessors.iter().filter_map(|d| d.connections).sum(),
        predecessors: predecessors.into_iter().map(predecessor).collect(),
    })
}

pub(super) fn detach(control: &Control, by: &Actor) -> Result<pb::DetachResponse, Status> {
    Ok(pb::DetachResponse {
        interfaces: control.detach(by).map_err(refused)?,
    })
}
