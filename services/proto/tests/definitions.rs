//! What a definition must say: the build's own checks, on definitions that lack something.

#![allow(
    dead_code,
    reason = "of the build's modules only what reads definitions is used"
)]

#[path = "../build/methods.rs"]
mod methods;
#[path = "../build/rest.rs"]
mod rest;
#[path = "../build/secrets.rs"]
mod secrets;

use std::fs;

use prost_reflect::DescriptorPool;

/// What the build makes of a file with that in it.
fn pool(of: &str) -> DescriptorPool {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metacircular/t.proto");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let text = format!(
        r#"syntax = "proto3";
        package metacircular.t;
        import "google/api/annotations.proto";
        import "metacircular/options/v1/options.proto";
        {of}"#
    );
    fs::write(&path, text).unwrap();
    let mut compiler = protox::Compiler::new([directory.path(), "proto".as_ref()]).unwrap();
    compiler
        .include_imports(true)
        .open_file("metacircular/t.proto")
        .unwrap();
    compiler.descriptor_pool()
}

/// What the build says of these methods.
fn errors(rpcs: &str) -> String {
    let pool = pool(&format!(
        r#"service S {{ {rpcs} }}
        message In {{ string name = 1; Inner inner = 2; repeated Inner list = 3; repeated string names = 4; }}
        message Plain {{ string name = 1; uint32 limit = 2; repeated string tags = 3; Flat flat = 4; }}
        message Flat {{ string a = 1; }}
        message Inner {{ In deeper = 1; }}
        message Out {{}}"#
    ));
    match methods::read(&pool) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// A GET of one path, and another method.
fn both(get: &str, verb: &str, path: &str) -> String {
    let rpc = |name: &str, verb: &str, path: &str| {
        format!(
            r#"rpc {name}(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{{verb}: "{path}"}}; }}"#
        )
    };
    rpc("M", "get", get) + &rpc("N", verb, path)
}

const ADMIN: &str = "option (metacircular.options.v1.access) = {level: ADMIN};";

#[test]
fn a_definition_that_lacks_something_is_refused() {
    let get = r#"option (google.api.http) = {get: "/v1/s/{name}"};"#;
    let rows = [
        (
            "all is said",
            format!("rpc M(Plain) returns (Out) {{ {ADMIN} {get} }}"),
            "",
        ),
        (
            "no access",
            format!("rpc M(Plain) returns (Out) {{ {get} }}"),
            "S.M: does not say who may call it",
        ),
        (
            "an access without a level",
            format!(
                "rpc M(Plain) returns (Out) {{ option (metacircular.options.v1.access) = {{audited: true}}; {get} }}"
            ),
            "no level",
        ),
        (
            "callers of what is public",
            format!(
                "rpc M(Plain) returns (Out) {{ option (metacircular.options.v1.access) = {{level: PUBLIC, callers: HUMAN}}; {get} }}"
            ),
            "remove `callers`",
        ),
        (
            "tokens for other services",
            format!(
                "rpc M(Plain) returns (Out) {{ option (metacircular.options.v1.access) = {{level: AUTHENTICATED, other_audiences: true}}; {get} }}"
            ),
            "",
        ),
        (
            "tokens for other services, where anybody may call",
            format!(
                "rpc M(Plain) returns (Out) {{ option (metacircular.options.v1.access) = {{level: PUBLIC, other_audiences: true}}; {get} }}"
            ),
            "remove `other_audiences`",
        ),
        (
            "tokens for other services, of administrators",
            format!(
                "rpc M(Plain) returns (Out) {{ option (metacircular.options.v1.access) = {{level: ADMIN, other_audiences: true}}; {get} }}"
            ),
            "remove `other_audiences`",
        ),
        (
            "a stream with tokens for other services",
            "rpc M(Plain) returns (stream Out) { option (metacircular.options.v1.access) = {level: AUTHENTICATED, other_audiences: true}; }".to_owned(),
            "remove `other_audiences`",
        ),
        (
            "no REST path",
            format!("rpc M(Plain) returns (Out) {{ {ADMIN} }}"),
            "no REST path",
        ),
        (
            "a stream without one",
            format!("rpc M(Plain) returns (stream Out) {{ {ADMIN} }}"),
            "",
        ),
        (
            "a stream with one",
            format!("rpc M(Plain) returns (stream Out) {{ {ADMIN} {get} }}"),
            "streams",
        ),
        (
            "a path of an unknown field",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/s/{{nam}}"}}; }}"#
            ),
            "\"nam\"",
        ),
        (
            "a path of a list",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/s/{{tags}}"}}; }}"#
            ),
            "\"tags\"",
        ),
        (
            "a path of a message's field",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/s/{{flat.a}}"}}; }}"#
            ),
            "",
        ),
        (
            "a path outside of /v1",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/s"}}; }}"#
            ),
            "/v1/",
        ),
        (
            "an empty segment",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1//s"}}; }}"#
            ),
            "is not /v1/",
        ),
        (
            "many segments before the end",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/{{*name}}/s"}}; }}"#
            ),
            "at the end",
        ),
        (
            "many segments at the end",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/s/{{*name}}"}}; }}"#
            ),
            "",
        ),
        (
            "a GET with a body",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/s", body: "*"}}; }}"#
            ),
            "no body",
        ),
        (
            "a field as body",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{post: "/v1/s", body: "flat"}}; }}"#
            ),
            "\"flat\"",
        ),
        (
            "messages in a query",
            format!(
                r#"rpc M(In) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/s"}}; }}"#
            ),
            "query",
        ),
        (
            "messages in a body",
            format!(
                r#"rpc M(In) returns (Out) {{ {ADMIN} option (google.api.http) = {{post: "/v1/s", body: "*"}}; }}"#
            ),
            "",
        ),
        (
            "two with one path",
            format!(
                r#"rpc M(Plain) returns (Out) {{ {ADMIN} {get} }} rpc N(Plain) returns (Out) {{ {ADMIN} option (google.api.http) = {{get: "/v1/s/{{limit}}"}}; }}"#
            ),
            "same REST path",
        ),
        (
            "two verbs at one path whose fields have two names",
            both("/v1/s/{name}", "delete", "/v1/s/{limit}"),
            "S.N: its REST path \"/v1/s/{limit}\" collides with \"/v1/s/{name}\" of metacircular.t.S.M",
        ),
        (
            "and further in",
            both("/v1/s/{name}/t/{limit}", "delete", "/v1/s/{limit}/t/{name}"),
            "collides",
        ),
        (
            "one path below another, with two names",
            both("/v1/s/{name}", "get", "/v1/s/{limit}/t"),
            "",
        ),
        (
            "a field beside all that is left",
            both("/v1/s/{name}", "get", "/v1/s/{*name}"),
            "collides",
        ),
        (
            "a field beside a word",
            both("/v1/s/{name}", "get", "/v1/s/t"),
            "",
        ),
    ];
    for (description, rpcs, wanted) in rows {
        let got = errors(&rpcs);
        assert_eq!(got.is_empty(), wanted.is_empty(), "{description}: {got}");
        assert!(got.contains(wanted), "{description}: {got}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let got = errors("rpc M(Plain) returns (Out); rpc N(Plain) returns (Out);");
    assert!(got.contains("S.M: ") && got.contains("S.N: "), "{got}");
}

#[test]
fn secrets_are_not_shown() {
    let login = mc_proto::mcias::v1::LoginRequest {
        account: "somebody".to_owned(),
        password: "hunter2".to_owned(),
        ..Default::default()
    };
    let text = format!("{login:?}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(
        text.contains(r#"account: "somebody", password: <secret>"#),
        "{text}"
    );
    let codes = mc_proto::mcias::v1::NewRecoveryCodesResponse {
        codes: vec!["hunter2".to_owned()],
    };
    assert_eq!(
        format!("{codes:?}"),
        "NewRecoveryCodesResponse { codes: <secret> }"
    );
}

#[test]
fn secrets_are_given_with_their_names() {
    use mc_proto::{
        Secrets,
        metacrypt::v1::{EncryptRequest, Plaintext, RotateMasterKeyRequest, SealSecret},
    };
    let given = |message: &dyn Secrets| {
        let mut all = Vec::new();
        message.each_secret(&mut |name, bytes| {
            if !bytes.is_empty() {
                all.push((name, String::from_utf8(bytes.to_vec()).unwrap()));
            }
        });
        all
    };
    let plaintext = |text: &str| Plaintext {
        plaintext: text.into(),
        associated_data: b"about".to_vec(),
    };
    let encrypt = EncryptRequest {
        plaintexts: vec![plaintext("one"), plaintext("two")],
        ..EncryptRequest::default()
    };
    let wanted = [("plaintext", "one"), ("plaintext", "two")];
    assert_eq!(given(&encrypt), wanted.map(|(n, t)| (n, t.to_owned())));
    let rotate = RotateMasterKeyRequest {
        current: Some(SealSecret {
            shares: vec!["a".to_owned(), "b".to_owned()],
            ..SealSecret::default()
        }),
        password: "c".to_owned(),
        ..RotateMasterKeyRequest::default()
    };
    let wanted = [("shares", "a"), ("shares", "b"), ("password", "c")];
    assert_eq!(given(&rotate), wanted.map(|(n, t)| (n, t.to_owned())));
}

#[test]
fn secrets_are_found_wherever_they_are() {
    let secret = "[(metacircular.options.v1.secret) = true]";
    let of = format!(
        "message Outer {{
            string first_name = 1;
            oneof what {{ string pass_word = 2 {secret}; string file = 3; }}
            message Inner {{ string type = 1; }}
            optional string last = 4;
        }}
        message Plain {{ Outer outer = 1; }}"
    );
    let pool_of = pool(&of);
    let wanted = [".metacircular.t.Outer", ".metacircular.t.Outer.Inner"];
    assert_eq!(secrets::paths(&pool_of), wanted);
    let text = secrets::debug(&pool_of).unwrap()["metacircular.t"].clone();
    for part in [
        "Debug for Outer {",
        r#".field("first_name", &self.first_name).field("last", &self.last).field("what", &self.what)"#,
        "Debug for outer::What {",
        r#"Self::PassWord(_) => f.debug_tuple("PassWord").field(&::core::format_args!("<secret>"))"#,
        r#"Self::File(value) => f.debug_tuple("File").field(value)"#,
        "Debug for outer::Inner {",
        r#".field("type", &self.r#type)"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let text = secrets::each(&pool_of).unwrap()["metacircular.t"].clone();
    for part in [
        "Secrets for Outer {",
        r#"if let Some(outer::What::PassWord(one)) = &self.what { each("pass_word", one.as_ref()); }"#,
        "Secrets for Plain {",
        "if let Some(one) = &self.outer { crate::Secrets::each_secret(one, each); }",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("Inner"), "{text}");
    let number = format!("message M {{ int32 pin = 1 {secret}; }}");
    let error = secrets::each(&pool(&number)).unwrap_err();
    assert!(error.contains("M.pin is secret, and neither"), "{error}");
    let with_enum = format!("message M {{ string a = 1 {secret}; enum Kind {{ NONE = 0; }} }}");
    let error = secrets::debug(&pool(&with_enum)).unwrap_err();
    assert!(error.contains("define Kind outside of it"), "{error}");
}

#[test]
fn examples_are_there_with_their_feature_alone() {
    for package in ["metacircular.example.v1", "metacircular.guestbook.v1"] {
        let there = [
            mc_proto::METHODS.iter().any(|m| m.package == package),
            mc_proto::PACKAGES.iter().any(|(name, _)| *name == package),
            mc_proto::OPENAPI.contains(package),
            mc_proto::DESCRIPTORS
                .windows(package.len())
                .any(|bytes| bytes == package.as_bytes()),
        ];
        assert_eq!(there, [cfg!(feature = "examples"); 4], "{package}");
    }
}
