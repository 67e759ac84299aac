//! What people say of devices by the API: whose they are, and whose not.

use mc_proto::mcias::v1::{
    AcknowledgeDeviceRequest, Device, ForgetDeviceRequest, ListDevicesRequest, LoginRequest,
    WhoAmIRequest,
};
use tonic::{Code, Status};

use crate::running::{Clients, PASSWORD, Running};

/// A program of that name in which somebody is logged in.
pub(crate) async fn program(running: &Running, account: &str, device: &str) -> Clients {
    let mut somebody = running.clients(None).await;
    let request = LoginRequest {
        account: account.to_owned(),
        password: PASSWORD.to_owned(),
        device: device.to_owned(),
        ..LoginRequest::default()
    };
    let login = somebody.auth.login(request).await.unwrap().into_inner();
    running.clients(Some(&login.token)).await
}

/// The devices, and whether this one may acknowledge others.
async fn list(clients: &mut Clients) -> (Vec<Device>, bool) {
    let list = clients.profile.list_devices(ListDevicesRequest {}).await;
    let list = list.unwrap().into_inner();
    (list.devices, list.may_acknowledge)
}

async fn id(clients: &mut Clients, name: &str) -> String {
    let (devices, _) = list(clients).await;
    let found = devices.into_iter().find(|device| device.name == name);
    found.unwrap_or_else(|| panic!("no {name}")).id
}

async fn acknowledge(clients: &mut Clients, id: &str) -> Result<(), Status> {
    let id = id.to_owned();
    let request = AcknowledgeDeviceRequest { id };
    clients.profile.acknowledge_device(request).await.map(drop)
}

async fn forget(clients: &mut Clients, id: &str) -> Result<u32, Status> {
    let id = id.to_owned();
    let forgotten = clients.profile.forget_device(ForgetDeviceRequest { id });
    Ok(forgotten.await?.into_inner().ended)
}

async fn is_in(clients: &mut Clients) -> bool {
    clients.auth.who_am_i(WhoAmIRequest {}).await.is_ok()
}

#[tokio::test]
async fn an_owner_acknowledges_and_forgets() {
    let running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let mut desk = program(&running, "ada", "desk").await;
    let mut phone = program(&running, "ada", "phone").await;
    let (devices, may) = list(&mut desk).await;
    let seen: Vec<_> = devices
        .iter()
        .map(|d| (&*d.name, d.new_since.is_some(), d.current, &*d.service))
        .collect();
    assert_eq!(
        seen,
        [("phone", true, false, "mcias"), ("desk", false, true, "")]
    );
    assert!(may && devices[0].methods == ["pwd"] && devices[0].network == "127.0.0.1/32");
    let (_, may) = list(&mut phone).await;
    assert!(!may, "it is new itself");

    let of_phone = id(&mut desk, "phone").await;
    acknowledge(&mut desk, &of_phone).await.unwrap();
    let twice = acknowledge(&mut desk, &of_phone).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition);
    let (devices, may) = list(&mut phone).await;
    assert!(may && devices.iter().all(|device| device.new_since.is_none()));

    let mut second = program(&running, "ada", "phone").await;
    assert_eq!(forget(&mut desk, &of_phone).await.unwrap(), 2);
    assert!(!is_in(&mut phone).await && !is_in(&mut second).await && is_in(&mut desk).await);
    let gone = forget(&mut desk, &of_phone).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    program(&running, "ada", "phone").await;
    let (devices, _) = list(&mut desk).await;
    assert!(devices[0].name == "phone" && devices[0].new_since.is_some());
    let sql = "SELECT group_concat(outcome, ' ') FROM (SELECT outcome FROM audit
        WHERE action LIKE '%/AcknowledgeDevice' OR action LIKE '%/ForgetDevice' ORDER BY seq)";
    let db = running.database();
    let outcomes: String = db.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(outcomes, "OK FAILED_PRECONDITION OK NOT_FOUND");
}

#[tokio::test]
async fn a_thief_says_nothing_of_devices() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.person("eve", "user").await;
    let mut desk = program(&running, "ada", "desk").await;
    let mut thief = program(&running, "ada", "thief").await;
    let of_desk = id(&mut thief, "desk").await;
    let of_thief = id(&mut thief, "thief").await;
    for (description, id, mine, code) in [
        (
            "that he is the owner",
            &of_thief,
            true,
            Code::PermissionDenied,
        ),
        (
            "that he was never there",
            &of_thief,
            false,
            Code::FailedPrecondition,
        ),
        // Or there would be none left that could tell.
        (
            "that the owner is none",
            &of_desk,
            false,
            Code::PermissionDenied,
        ),
        (
            "what was said already",
            &of_desk,
            true,
            Code::PermissionDenied,
        ),
    ] {
        let refused = match mine {
            true => acknowledge(&mut thief, id).await,
            false => forget(&mut thief, id).await.map(drop),
        };
        assert_eq!(refused.unwrap_err().code(), code, "{description}");
    }
    // Nor somebody else, with what he heard.
    let mut eve = program(&running, "eve", "desk").await;
    for id in [&of_desk, &of_thief, &String::new(), &"x".repeat(1000)] {
        let known = acknowledge(&mut eve, id).await.unwrap_err();
        let gone = forget(&mut eve, id).await.unwrap_err();
        assert_eq!(
            (known.code(), gone.code()),
            (Code::NotFound, Code::NotFound)
        );
        assert!(known.message().len() < 200, "{known:?}");
    }
    let own = id(&mut desk, "desk").await;
    let refused = forget(&mut desk, &own).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "its own");
    assert!(is_in(&mut desk).await && is_in(&mut thief).await);
    assert_eq!(forget(&mut desk, &of_thief).await.unwrap(), 1);
    assert!(!is_in(&mut thief).await);
}
