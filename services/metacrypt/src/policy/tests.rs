use std::collections::BTreeMap;

use mcdsl::{
    audit::Detail,
    policy::{Effect, Subjects},
};
use rusqlite::config::DbConfig;

use super::{log::RULE, *};
use crate::testing::{World, caller};

const FIND: &str = "mount = (SELECT number FROM mount WHERE name = 'system') AND path = 'policy'";

fn rule(name: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        description: String::new(),
        priority: 0,
        effect: Effect::Allow,
        subjects: Subjects {
            anyone: true,
            ..Subjects::default()
        },
        actions: vec!["**".to_owned()],
        resources: vec!["**".to_owned()],
        resource_tags: Vec::new(),
    }
}

async fn change(world: &World, whole: bool, name: &'static str) -> Result<(), EngineError> {
    let by = caller("root", "admin", CHANGES[if whole { 2 } else { 0 }]);
    let change = move |all: &mut Vec<Rule>| {
        if whole {
            all.clear();
        }
        put(all, rule(name), false)
    };
    let changed = world
        .metacrypt
        .change_policy(&by, whole, Detail::new(), change);
    changed.await
}

fn names(world: &World) -> Vec<String> {
    let open = world.metacrypt.open().unwrap();
    let in_force = in_force(&open).unwrap();
    in_force.set.order().map(ToString::to_string).collect()
}

/// As somebody does who may write the file, while the seal is open.
#[tokio::test]
async fn rules_that_are_put_back_while_they_are_in_force_are_found_out_by_the_next_change() {
    for (description, sql, said) in [
        (
            "the ones of before",
            format!("UPDATE item SET value = (SELECT value FROM old) WHERE {FIND}"),
            "the rules are of change 1, and the audit log's last is 2",
        ),
        (
            "another text",
            format!("UPDATE item SET value = zeroblob(200) WHERE {FIND}"),
            "changed by somebody else",
        ),
        (
            "none",
            format!("DELETE FROM item WHERE {FIND}"),
            "the rules are of change 0, and the audit log's last is 2",
        ),
        (
            "the ones of before, and the log of then",
            format!(
                "UPDATE item SET value = (SELECT value FROM old) WHERE {FIND}; \
                 DELETE FROM audit WHERE json_extract(detail, '$.policy') = 2"
            ),
            "the rules are of change 1, and what is in force is of change 2",
        ),
    ] {
        for whole in [false, true] {
            let world = World::vault().await;
            change(&world, false, "one").await.unwrap();
            let db = world.db();
            // Who writes the file does not ask the log's triggers.
            let triggers = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
            db.set_db_config(triggers, false).unwrap();
            let old = format!("CREATE TEMP TABLE old AS SELECT value FROM item WHERE {FIND}");
            db.execute(&old, []).unwrap();
            change(&world, false, "two").await.unwrap();
            assert_eq!(names(&world), ["one", "two"]);
            db.execute_batch(&sql).unwrap();
            let told = change(&world, whole, "three")
                .await
                .unwrap_err()
                .to_string();
            assert!(
                told.contains(said) && told.contains("ReplaceRules"),
                "{description}: {told}"
            );
            assert_eq!(names(&world), [""; 0], "{description}: none is asked");
            assert!(change(&world, false, "three").await.is_err());
            change(&world, true, "three").await.unwrap();
            change(&world, false, "four").await.unwrap();
            assert_eq!(names(&world), ["four", "three"], "{description}");
            world.metacrypt.close().await;
            world.unseal().await;
            assert_eq!(names(&world), ["four", "three"], "{description}");
        }
    }
}

/// What was allowed at any time is to be told by the log alone.
#[tokio::test]
async fn what_a_change_makes_of_the_rules_is_whole_in_the_log() {
    let world = World::vault().await;
    let mut long = rule("long");
    // More than a row has, and the worst of it last.
    let name = "a".repeat(60);
    let resources = (0..60).map(|n| format!("vault/{n}/{}", [&*name; 11].join("/")));
    long.resources = resources.chain(["**".to_owned()]).collect();
    let mut other = rule("other");
    other.priority = 7;
    let replaced = [rule("other"), rule("third")];
    let mut hashes = Vec::new();
    for (description, method, change, removed, added) in [
        (
            "one that is made",
            0,
            vec![long.clone()],
            vec![],
            vec![long.clone()],
        ),
        (
            "another",
            0,
            vec![long.clone(), other.clone()],
            vec![],
            vec![other.clone()],
        ),
        (
            "all of them replaced",
            2,
            replaced.to_vec(),
            vec![long, other],
            replaced.to_vec(),
        ),
        (
            "one that is deleted",
            1,
            vec![rule("other")],
            vec![rule("third")],
            vec![],
        ),
        ("the same again", 2, vec![rule("other")], vec![], vec![]),
    ] {
        let before = world.audit().len();
        let by = caller("root", "admin", CHANGES[method]);
        let put = move |all: &mut Vec<Rule>| {
            *all = change;
            Ok(())
        };
        let changed = world
            .metacrypt
            .change_policy(&by, false, Detail::new(), put);
        changed.await.unwrap();
        let mut rows = world.audit().split_off(before).into_iter();
        let (who, action, _, detail) = rows.next().unwrap();
        assert_eq!((who.as_deref(), &*action), (Some("root"), CHANGES[method]));
        let change: serde_json::Value = serde_json::from_str(&detail).unwrap();
        hashes.push(change["sha256"].as_str().unwrap().to_owned());
        let mut found = BTreeMap::<_, String>::new();
        for (who, action, name, detail) in rows {
            assert_eq!((who.as_deref(), &*action), (Some("root"), RULE));
            let row: serde_json::Value = serde_json::from_str(&detail).unwrap();
            assert_eq!(row["policy"], change["policy"], "{description}");
            let is = row["is"].as_str().unwrap().to_owned();
            let text = found.entry((is, name)).or_default();
            text.push_str(row["rule"].as_str().unwrap());
        }
        let wanted = [("removed", removed), ("added", added)];
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .flat_map(|(is, rules)| {
                let text = |rule: &Rule| serde_json::to_string(rule).unwrap();
                rules
                    .iter()
                    .map(move |rule| (((*is).to_owned(), rule.name.clone()), text(rule)))
            })
            .collect();
        assert_eq!(found, wanted, "{description}");
    }
    assert_eq!(hashes[3], hashes[4], "of the same rules");
    assert_eq!(
        hashes
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        4
    );
}

#[test]
fn roles_are_those_of_accounts_and_no_deny_is_for_administrators_alone() {
    let idle = "roles: administrators may do everything, so that a deny for the role \"admin\" alone does nothing; take away the role in MCIAS from whom it is to bind";
    let none = "roles: \"nope\" is no role of MCIAS; there are: admin, user, guest";
    let ada = ["ada".to_owned()];
    for (effect, roles, accounts, wanted) in [
        (Effect::Allow, &["user"][..], &[][..], None),
        (Effect::Allow, &["guest"], &[], None),
        (Effect::Allow, &["admin"], &[], None),
        (Effect::Allow, &["nope"], &[], Some(none)),
        (Effect::Deny, &["user"], &[], None),
        (Effect::Deny, &["admin", "user"], &[], None),
        (Effect::Deny, &[], &ada, None),
        (Effect::Deny, &["admin"], &[], Some(idle)),
        (Effect::Deny, &["admin"], &ada, Some(idle)),
    ] {
        let subjects = Subjects {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            accounts: accounts.to_vec(),
            ..Subjects::default()
        };
        let rule = Rule {
            subjects,
            effect,
            ..rule("a")
        };
        let told = check(&rule, |_| None).map_err(|error| error.to_string());
        let wanted = wanted.map_or(Ok(()), |why| Err(why.to_owned()));
        assert_eq!(told, wanted, "{effect} {roles:?}");
    }
}
