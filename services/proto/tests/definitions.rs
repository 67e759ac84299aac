//! What a definition must say: the build's own checks, on definitions that lack something.

#![allow(
    dead_code,
    reason = "of the build's modules only what reads definitions is used"
)]

#[path = "../build/methods.rs"]
mod methods;
#[path = "../build/rest.rs"]
mod rest;

use std::fs;

/// What the build says of these methods.
fn errors(rpcs: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metacircular/t.proto");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let text = format!(
        r#"syntax = "proto3";
        package metacircular.t;
        import "google/api/annotations.proto";
        import "metacircular/options/v1/options.proto";
        service S {{ {rpcs} }}
        message In {{ string name = 1; Inner inner = 2; repeated Inner list = 3; repeated string names = 4; }}
        message Plain {{ string name = 1; uint32 limit = 2; repeated string tags = 3; Flat flat = 4; }}
        message Flat {{ string a = 1; }}
        message Inner {{ In deeper = 1; }}
        message Out {{}}"#
    );
    fs::write(&path, text).unwrap();
    let mut compiler = protox::Compiler::new([directory.path(), "proto".as_ref()]).unwrap();
    compiler
        .include_imports(true)
        .open_file("metacircular/t.proto")
        .unwrap();
    match methods::read(&compiler.descriptor_pool()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
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
