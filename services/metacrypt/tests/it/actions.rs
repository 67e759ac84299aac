//! Every method that the policy judges, by who may do just that, who may do everything else, and who is denied it.

use std::collections::BTreeSet;

use mc_proto::{
    Level, METHODS, Method,
    metacrypt::v1::{
        CreateKeyRequest, EncryptRequest, KeyAlgorithm, ListEnginesRequest, Plaintext,
        ReplaceRulesRequest, Rule, SignRequest, UpdateKeyRequest,
    },
};

use crate::{
    pki,
    redacted::Secrets,
    world::{Clients, World},
};

/// A method, what it is asked in JSON (what is in the address too), and the action that allows it. A list is not refused: it has nothing in it.
pub(crate) type Row = (&'static str, &'static str, Answer, &'static str);

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Answer {
    Refused,
    Empty,
}
use Answer::{Empty, Refused};

const KEY: &str = r#"{"mount": "vault", "name": "app"}"#;

const ROWS: &[Row] = &[
    ("System/ListMounts", "{}", Empty, "mount:read"),
    (
        "Transit/CreateKey",
        r#"{"mount": "vault", "name": "new", "algorithm": "AES_256_GCM"}"#,
        Refused,
        "transit:create",
    ),
    (
        "Transit/ListKeys",
        r#"{"mount": "vault"}"#,
        Empty,
        "transit:read",
    ),
    ("Transit/GetKey", KEY, Refused, "transit:read"),
    (
        "Transit/UpdateKey",
        r#"{"mount": "vault", "name": "app", "min_decryption_version": 1}"#,
        Refused,
        "transit:update",
    ),
    ("Transit/RotateKey", KEY, Refused, "transit:rotate"),
    (
        "Transit/DeleteKey",
        r#"{"mount": "vault", "name": "gone"}"#,
        Refused,
        "transit:delete",
    ),
    ("Transit/ExportKey", KEY, Refused, "transit:export"),
    (
        "Transit/Encrypt",
        r#"{"mount": "vault", "name": "app", "plaintexts": [{"plaintext": "YQ=="}]}"#,
        Refused,
        "transit:encrypt",
    ),
    (
        "Transit/Decrypt",
        r#"{"mount": "vault", "name": "app", "ciphertexts": [{"ciphertext": "CIPHERTEXT"}]}"#,
        Refused,
        "transit:decrypt",
    ),
    (
        "Transit/Rewrap",
        r#"{"mount": "vault", "name": "app", "ciphertexts": [{"ciphertext": "CIPHERTEXT"}]}"#,
        Refused,
        "transit:rewrap",
    ),
    ("Transit/CreateDataKey", KEY, Refused, "transit:datakey"),
    (
        "Transit/CreateDataKey",
        r#"{"mount": "vault", "name": "app", "only_ciphertext": true}"#,
        Refused,
        "transit:datakey-wrapped",
    ),
    (
        "Transit/TrimKey",
        r#"{"mount": "vault", "name": "app", "below": 1}"#,
        Refused,
        "transit:trim",
    ),
    (
        "Transit/Sign",
        r#"{"mount": "vault", "name": "sig", "messages": ["YQ=="]}"#,
        Refused,
        "transit:sign",
    ),
    (
        "Transit/Verify",
        r#"{"mount": "vault", "name": "sig", "signed": [{"message": "YQ==", "signature": "SIGNATURE"}]}"#,
        Refused,
        "transit:verify",
    ),
    (
        "Transit/Random",
        r#"{"mount": "vault"}"#,
        Refused,
        "transit:random",
    ),
    (
        "Ssh/CreateCaKey",
        r#"{"mount": "ssh", "ca": "host"}"#,
        Refused,
        "ssh:create-ca-key",
    ),
    ("Ssh/ListCas", r#"{"mount": "ssh"}"#, Empty, "ssh:read"),
    (
        "Ssh/GetCa",
        r#"{"mount": "ssh", "ca": "user"}"#,
        Refused,
        "ssh:read",
    ),
    (
        "Ssh/UseCaKey",
        r#"{"mount": "ssh", "ca": "user", "number": "2"}"#,
        Refused,
        "ssh:use-ca-key",
    ),
    (
        "Ssh/DeleteCaKey",
        r#"{"mount": "ssh", "ca": "user", "number": "3"}"#,
        Refused,
        "ssh:delete-ca-key",
    ),
    (
        "Ssh/PutProfile",
        r#"{"mount": "ssh", "name": "new", "profile": {"kind": "SSH_KIND_USER", "principals": [{"account": true}], "max_ttl_s": "60"}}"#,
        Refused,
        "ssh:put-profile",
    ),
    ("Ssh/ListProfiles", r#"{"mount": "ssh"}"#, Empty, "ssh:read"),
    (
        "Ssh/GetProfile",
        r#"{"mount": "ssh", "name": "app"}"#,
        Refused,
        "ssh:read",
    ),
    (
        "Ssh/DeleteProfile",
        r#"{"mount": "ssh", "name": "gone"}"#,
        Refused,
        "ssh:delete-profile",
    ),
    (
        "Ssh/Sign",
        r#"{"mount": "ssh", "profile": "app", "public_key": "PUBLIC", "principals": ["ada"]}"#,
        Refused,
        "ssh:sign",
    ),
    (
        "Ssh/ListCertificates",
        r#"{"mount": "ssh"}"#,
        Empty,
        "ssh:read",
    ),
    (
        "Ssh/GetCertificate",
        r#"{"mount": "ssh", "serial": "NUMBER"}"#,
        Refused,
        "ssh:read",
    ),
    (
        "Ssh/Revoke",
        r#"{"mount": "ssh", "serial": "NUMBER"}"#,
        Refused,
        "ssh:revoke",
    ),
    (
        "Ssh/CreateRevocation",
        r#"{"mount": "ssh", "key_id": "bob"}"#,
        Refused,
        "ssh:create-revocation",
    ),
    (
        "Ssh/ListRevocations",
        r#"{"mount": "ssh"}"#,
        Empty,
        "ssh:read",
    ),
    (
        "Ssh/DeleteRevocation",
        r#"{"mount": "ssh", "id": "id-app"}"#,
        Refused,
        "ssh:delete-revocation",
    ),
    (
        "UserToUser/CreateKeys",
        r#"{"mount": "mail"}"#,
        Refused,
        "user:create",
    ),
    (
        "UserToUser/RotateKeys",
        r#"{"mount": "mail"}"#,
        Refused,
        "user:rotate",
    ),
    (
        "UserToUser/TrimKeys",
        r#"{"mount": "mail", "min_version": 1}"#,
        Refused,
        "user:trim",
    ),
    (
        "UserToUser/GetKeys",
        r#"{"mount": "mail", "name": "admin"}"#,
        Refused,
        "user:read",
    ),
    (
        "UserToUser/ListKeys",
        r#"{"mount": "mail"}"#,
        Empty,
        "user:read",
    ),
    (
        "UserToUser/Seal",
        r#"{"mount": "mail", "recipients": ["admin", "ada"], "plaintext": "YQ=="}"#,
        Refused,
        "user:seal",
    ),
    (
        "UserToUser/Open",
        r#"{"mount": "mail", "sealed": "SEALED"}"#,
        Refused,
        "user:open",
    ),
    (
        "UserToUser/DeleteKeys",
        r#"{"mount": "mail", "name": "admin"}"#,
        Refused,
        "user:delete",
    ),
];

/// Mounts that they are in, each with its engine.
const MOUNTS: [(&str, &str); 4] = [
    ("vault", "transit"),
    ("ssh", "ssh"),
    ("vault-ca", "pki"),
    ("mail", "user"),
];

/// Methods for whoever has a token, of which the policy has nothing to say.
const UNJUDGED: [&str; 4] = [
    "System/ListEngines",
    "System/CanI",
    // Judged on `system/audit`; see `operating`.
    "AuditLog/ListAudit",
    "AuditLog/VerifyAudit",
];

fn short(method: &Method) -> &'static str {
    let name = method.path.strip_prefix("/metacircular.metacrypt.v1.");
    name.unwrap_or(method.path)
}

/// A key that encrypts and one to delete, and one that signs; a ciphertext and a signature of theirs.
async fn vault(admin: &mut Clients) -> (String, String) {
    crate::policy::vault(admin, &["gone"]).await;
    for (name, algorithm) in [
        ("app", KeyAlgorithm::Aes256Gcm),
        ("sig", KeyAlgorithm::Ed25519),
    ] {
        let request = CreateKeyRequest {
            mount: "vault".to_owned(),
            name: name.to_owned(),
            algorithm: algorithm.into(),
            exportable: true,
            ..CreateKeyRequest::default()
        };
        admin.transit.create_key(request).await.unwrap();
    }
    let request = UpdateKeyRequest {
        mount: "vault".to_owned(),
        name: "gone".to_owned(),
        deletable: Some(true),
        ..UpdateKeyRequest::default()
    };
    admin.transit.update_key(request).await.unwrap();
    let request = EncryptRequest {
        mount: "vault".to_owned(),
        name: "app".to_owned(),
        plaintexts: vec![Plaintext::default()],
    };
    let encrypted = admin.transit.encrypt(request).await.unwrap().into_inner();
    let request = SignRequest {
        mount: "vault".to_owned(),
        name: "sig".to_owned(),
        messages: vec![b"a".to_vec()],
    };
    let signed = admin.transit.sign(request).await.unwrap().into_inner();
    (
        encrypted.ciphertexts[0].clone(),
        signed.signatures[0].clone(),
    )
}

/// The mounts in which something of this may be done: a rule that could never apply is refused.
fn in_mounts(actions: &[String]) -> Vec<String> {
    let of = |engine: &str| {
        let begin = |action: &String| action.split(':').next().unwrap_or_default().to_owned();
        let mut begins = actions.iter().map(begin);
        begins.any(|begin| begin == "mount" || begin == engine)
    };
    let found = MOUNTS.iter().filter(|(_, engine)| of(engine));
    found.map(|(mount, _)| format!("{mount}/**")).collect()
}

/// Ada's rules: what she may do, and what not.
async fn rules(admin: &mut Clients, allowed: &[String], denied: &[String]) {
    let rule = |deny: bool, actions: &[String]| Rule {
        name: if deny { "deny" } else { "allow" }.to_owned(),
        deny,
        accounts: vec!["ada".to_owned()],
        actions: actions.to_vec(),
        resources: in_mounts(actions),
        ..Rule::default()
    };
    let both = [(false, allowed), (true, denied)];
    let said = both.into_iter().filter(|(_, actions)| !actions.is_empty());
    let request = ReplaceRulesRequest {
        rules: said.map(|(deny, actions)| rule(deny, actions)).collect(),
        version: None,
    };
    admin.system.replace_rules(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_takes_its_action_and_no_other() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let token = world.user().await;
    let (ciphertext, signature) = vault(&mut admin).await;
    let (key, serial) = crate::ssh::one_of_each(&mut admin).await;
    rules(&mut admin, &["user:create".to_owned()], &[]).await;
    let sealed = crate::user::one_of_each(&mut admin, &mut world.clients(&token).await).await;
    let engines = admin.system.list_engines(ListEnginesRequest {}).await;
    let engines = engines.unwrap().into_inner().engines;
    let mut all: Vec<String> = engines.into_iter().flat_map(|e| e.actions).collect();
    all.push("mount:read".to_owned());
    let of_ca = pki::actions::vault(&world).await;
    let rows = || ROWS.iter().chain(pki::actions::ROWS);
    let named: BTreeSet<&str> = rows().map(|row| row.3).collect();
    let known: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(named, known, "each action has a row");
    let ours = |method: &&Method| method.package == "metacircular.metacrypt.v1";
    let judged = METHODS.iter().filter(ours).filter(|method| {
        method.access.level == Level::Authenticated && !UNJUDGED.contains(&short(method))
    });
    for method in judged.clone() {
        let has = rows().any(|row| row.0 == short(method));
        assert!(has, "{} has no row", method.path);
    }
    let tried = judged.flat_map(|method| {
        let own = rows().filter(move |row| row.0 == short(method));
        own.map(move |row| (method, row))
    });
    let mut secrets = Secrets::default();
    for (method, &(_, body, answer, action)) in tried {
        let body = body
            .replace("CIPHERTEXT", &ciphertext)
            .replace("SIGNATURE", &signature)
            .replace("SEALED", &sealed)
            .replace("PUBLIC", &key)
            .replace("NUMBER", &serial);
        let body = of_ca
            .iter()
            .fold(body, |body, (name, value)| body.replace(name, value));
        let mount = MOUNTS
            .iter()
            .find(|(mount, _)| body.contains(&format!("\"mount\": \"{mount}\"")));
        let mount = mount.unwrap_or(&MOUNTS[0]).0;
        let others: Vec<_> = all.iter().filter(|a| *a != action).cloned().collect();
        let own = [action.to_owned()];
        for (description, allowed, denied, works) in [
            ("no rule", &[][..], &[][..], false),
            ("every other action", &others, &[], false),
            ("it is denied beside all", &all, &own, false),
            ("it alone", &own, &[], true),
        ] {
            rules(&mut admin, allowed, denied).await;
            let (status, text) = world.rest(&token, method, &body);
            let what = format!("{} ({description}): {status} {text}", method.path);
            let refused =
                status == 403 && text.contains(&format!("ada may not {action} on {mount}/"));
            let told = ["vault", "app", "\"ca\":", "\"versions\":"];
            let empty = status == 200 && !told.iter().any(|name| text.contains(name));
            match (works, answer) {
                (true, _) => {
                    secrets.note(method, &body, &text);
                    assert_eq!(status, 200, "{what}");
                    assert!(answer != Empty || !empty, "{what}");
                }
                (false, Refused) => assert!(refused, "{what}"),
                (false, Empty) => assert!(empty, "{what}"),
            }
        }
    }
    secrets.are_not_in_the_log(&world, &mut admin).await;
    // What was refused says by what, for who reads the log.
    let rows = world.audit();
    for (outcome, by) in [
        ("PERMISSION_DENIED", "\"by\":\"rule deny\""),
        ("PERMISSION_DENIED", "\"by\":\"no rule matches"),
        ("OK", "\"by\":\"rule allow\""),
    ] {
        let told = |row: &&(String, String, String, String)| row.2 == outcome && row.3.contains(by);
        assert!(
            rows.iter().any(|row| told(&row)),
            "{outcome} {by}: {rows:#?}"
        );
    }
}
