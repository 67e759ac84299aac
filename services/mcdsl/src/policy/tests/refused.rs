//! What is no policy, and nobody.

use super::*;

#[test]
fn a_rule_that_is_not_understood_is_named() {
    type Change = fn(&mut Rule);
    let changes: [(&str, Change, &str); 12] = [
        (
            "a name",
            |r| r.name = "a b".into(),
            r#""a b" cannot name a rule: ' ' is in no name"#,
        ),
        (
            "nobody",
            |r| r.subjects.anyone = false,
            "rule one: subjects is empty; write `anyone = true`",
        ),
        (
            "everybody and some",
            |r| r.subjects.roles = vec!["x".into()],
            "rule one: subjects: `anyone` is there beside",
        ),
        (
            "no actions",
            |r| r.actions.clear(),
            "rule one: actions is empty",
        ),
        (
            "no resources",
            |r| r.resources.clear(),
            "rule one: resources is empty",
        ),
        (
            "an action",
            |r| r.actions.push("A:b".into()),
            r#"rule one: actions: "A:b" is not valid: 'A' is upper case"#,
        ),
        (
            "above",
            |r| r.resources.push("a/../b".into()),
            r#"rule one: resources: "a/../b" is not valid: `.` and `..`"#,
        ),
        (
            "stars",
            |r| r.resources.push("**/b".into()),
            r#"rule one: resources: "**/b" is not valid: `*` is in patterns"#,
        ),
        (
            "a tag",
            |r| r.resource_tags.push("a*".into()),
            r#"rule one: resource_tags: "a*" is not valid: `*`"#,
        ),
        (
            "too many",
            |r| r.resources = vec!["a".into(); 65],
            "rule one: resources has more than 64 entries",
        ),
        (
            "a type",
            |r| {
                r.subjects = Subjects {
                    account_types: vec!["robot".into()],
                    ..Subjects::default()
                };
            },
            r#"rule one: subjects.account_types: "robot" is neither"#,
        ),
        (
            "a role",
            |r| {
                r.subjects = Subjects {
                    roles: vec![String::new()],
                    ..Subjects::default()
                };
            },
            r#"rule one: subjects.roles: "" is not valid: it is empty"#,
        ),
    ];
    for (description, change, wanted) in changes {
        let mut one = rule("one", 0, Effect::Allow, "**");
        change(&mut one);
        let rules = vec![one];
        let error = PolicySet::compile(&Policy {
            admin_bypass: false,
            rules,
        })
        .unwrap_err();
        let text = chain(&error);
        assert!(text.starts_with(wanted), "{description}: {text}");
    }
    let one = rule("one", 0, Effect::Allow, "**");
    let compile = |rules| {
        PolicySet::compile(&Policy {
            admin_bypass: false,
            rules,
        })
    };
    assert!(matches!(
        compile(vec![one.clone(), one.clone()]),
        Err(PolicyError::Duplicate(_))
    ));
    assert!(matches!(
        compile(vec![one; 1025]),
        Err(PolicyError::TooManyRules(1025))
    ));
}

#[test]
fn texts() {
    let json = r#"{"name":"a","effect":"deny","subjects":{"anyone":true},"actions":["**"],"resources":["**"]}"#;
    let parsed = Rule::from_json("rule 7", json).unwrap();
    assert_eq!(
        serde_json::to_string(&parsed).unwrap(),
        json.replace(r#""effect""#, r#""priority":0,"effect""#)
    );
    for (description, text, wanted) in [
        (
            "an unknown key",
            json.replace(r#""name""#, r#""nmae":1,"name""#),
            "rule 7 is not a rule in JSON: unknown field `nmae`",
        ),
        (
            "an unknown subject",
            json.replace("anyone", "anybody"),
            "rule 7 is not a rule in JSON: unknown field `anybody`",
        ),
        (
            "a key twice",
            json.replace(r#""name""#, r#""name":"b","name""#),
            "rule 7 is not a rule in JSON: duplicate field `name`",
        ),
        (
            "another effect",
            json.replace("deny", "Allow"),
            "rule 7 is not a rule in JSON: unknown variant `Allow`",
        ),
        (
            "no subjects",
            json.replace(r#""subjects":{"anyone":true},"#, ""),
            "rule 7 is not a rule in JSON: missing field `subjects`",
        ),
        (
            "half",
            json[..20].to_owned(),
            "rule 7 is not a rule in JSON: EOF",
        ),
        (
            "long",
            " ".repeat(MAX_RULE_TEXT + 1),
            "rule 7 is longer than 65536 bytes",
        ),
    ] {
        let text = chain(&Rule::from_json("rule 7", &text).unwrap_err());
        assert!(text.starts_with(wanted), "{description}: {text}");
    }
    let error =
        Policy::from_toml("policy.toml", &POLICY.replace("priority", "prioriti")).unwrap_err();
    assert!(
        chain(&error).contains("unknown field `prioriti`"),
        "{}",
        chain(&error)
    );
}

#[test]
fn who_cannot_be_judged_is_nobody() {
    let identity = Identity {
        account: "0193".into(),
        name: "alice".into(),
        account_type: AccountType::Human,
        roles: vec!["user".into(), "operator".into()],
        tags: vec!["env:prod".into(), "team:web".into()],
        token: String::new(),
        session: "login".to_owned(),
        issued: std::time::SystemTime::UNIX_EPOCH,
        methods: Vec::new(),
        expires: std::time::UNIX_EPOCH,
    };
    assert_eq!(Subject::try_from(&identity), Ok(alice()));
    type Change = fn(&mut Identity);
    let changes: [(&str, Change); 5] = [
        ("a name that is a pattern", |i| i.name = "*".into()),
        ("a name that is a path", |i| i.name = "a/b".into()),
        ("no account", |i| i.account.clear()),
        ("a role that is none", |i| i.roles.push("a b".into())),
        ("too many tags", |i| {
            i.tags = (0..65).map(|n| n.to_string()).collect()
        }),
    ];
    for (description, change) in changes {
        let mut changed = identity.clone();
        change(&mut changed);
        assert!(Subject::try_from(&changed).is_err(), "{description}");
    }
}
