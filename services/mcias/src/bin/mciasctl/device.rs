//! `mciasctl profile device`: where the account is used from, and what its owner says of that.

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Output, prompt};
use serde_json::json;

use crate::{
    Result,
    client::{Client, call, exists},
    view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the devices, new ones first
    #[command(visible_alias = "ls")]
    List,
    /// Says that a new device is one's own
    #[command(visible_alias = "ack")]
    Acknowledge {
        /// As `profile device list` shows it
        id: String,
    },
    /// Forgets a device that is not, or no longer, one's own: its logins end
    Forget {
        /// As `profile device list` shows it
        id: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut profile = client.profile().await?;
        match self {
            Self::List => {
                let list = call(profile.list_devices(pb::ListDevicesRequest {})).await?;
                out.table(
                    &["ID", "DEVICE", "NETWORK", "LAST LOGIN", "NEW SINCE"],
                    list.devices.iter().map(row).collect(),
                    "no devices are remembered",
                    &view::json_list("Device", &list.devices)?,
                )?;
            }
            Self::Acknowledge { id } => {
                let request = pb::AcknowledgeDeviceRequest { id: id.clone() };
                call(profile.acknowledge_device(request)).await?;
                out.done(
                    &format!("the device {id} is yours"),
                    &json!({ "acknowledged": id }),
                )?;
            }
            Self::Forget { id, yes } => {
                if !yes {
                    let list = call(profile.list_devices(pb::ListDevicesRequest {})).await?;
                    let ids = list.devices.iter().map(|device| &device.id);
                    exists("device", id, ids)?;
                }
                let what = format!("the logins of the device {id} will end");
                prompt::confirm(&what, *yes)?;
                let request = pb::ForgetDeviceRequest { id: id.clone() };
                let answer = call(profile.forget_device(request)).await?;
                let sentence = format!(
                    "the device {id} is forgotten; logins that ended: {}\n note: if somebody else used it, he knows your password: `mciasctl profile password`",
                    answer.ended
                );
                let value = json!({ "forgotten": id, "ended": answer.ended });
                out.done(&sentence, &value)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn row(device: &pb::Device) -> Vec<String> {
    let mut name = view::text(&device.name);
    if device.current {
        name.push_str(" (this one)");
    }
    vec![
        device.id.clone(),
        name,
        view::text(&device.network),
        view::time(device.last_login.as_ref()),
        view::time(device.new_since.as_ref()),
    ]
}
