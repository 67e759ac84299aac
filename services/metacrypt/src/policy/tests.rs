use super::*;
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
                 DROP TRIGGER audit_is_not_deleted; DELETE FROM audit WHERE json_extract(detail, '$.policy') = 2"
            ),
            "the rules are of change 1, and what is in force is of change 2",
        ),
    ] {
        for whole in [false, true] {
            let world = World::vault().await;
            change(&world, false, "one").await.unwrap();
            let db = world.db();
            let old = format!("CREATE TABLE old AS SELECT value FROM item WHERE {FIND}");
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

#[test]
fn roles_are_those_of_accounts() {
    for (role, fine) in [
        ("user", true),
        ("guest", true),
        ("admin", true),
        ("nope", false),
    ] {
        let subjects = Subjects {
            roles: vec![role.to_owned()],
            ..Subjects::default()
        };
        let rule = Rule {
            subjects,
            ..rule("a")
        };
        let told = check(&rule, |_| None).map_err(|error| error.to_string());
        let wanted = "roles: \"nope\" is no role of MCIAS; there are: admin, user, guest";
        let wanted = fine.then_some(()).ok_or_else(|| wanted.to_owned());
        assert_eq!(told, wanted, "{role}");
    }
}
