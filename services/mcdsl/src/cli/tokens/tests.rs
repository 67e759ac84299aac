use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    sync::Barrier,
    thread,
};

use super::*;

fn server(port: u16) -> ServerUrl {
    format!("https://mcias.example:{port}").parse().unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn token(text: &str, expires: u64) -> StoredToken {
    StoredToken {
        account: "ada".to_owned(),
        token: text.into(),
        expires: at(expires),
    }
}

fn store(directory: &tempfile::TempDir) -> TokenStore {
    TokenStore::within(&directory.path().join("metacircular/tokens"), "mcias").unwrap()
}

fn put(store: &TokenStore, port: u16, token: &StoredToken) {
    let room = store.room(at(0)).unwrap();
    let locked = store.lock().unwrap();
    locked.put(room, &server(port), token, at(0)).unwrap();
}

fn kept(store: &TokenStore, port: u16, now: u64) -> Option<String> {
    let token = store.get(&server(port), at(now)).unwrap()?;
    Some(token.token.expose_secret().to_owned())
}

#[test]
fn a_token_is_its_servers_until_it_expires() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    assert_eq!(kept(&store, 1, 0), None, "no file");
    put(&store, 1, &token("one", 100));
    put(&store, 2, &token("two", 50));
    put(&store, 1, &token("three", 100));
    for (description, port, now, want) in [
        ("the later one", 1, 0, Some("three")),
        ("another server's", 2, 49, Some("two")),
        ("expired", 2, 50, None),
        ("of no server", 3, 0, None),
    ] {
        assert_eq!(kept(&store, port, now).as_deref(), want, "{description}");
    }
    store.lock().unwrap().remove(&server(1), at(60)).unwrap();
    let text = fs::read_to_string(store.path()).unwrap();
    assert_eq!(text, "{}", "removed, and what has expired is dropped");
}

#[test]
fn it_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    put(&store, 1, &token("one", 100));
    let tokens = store.path().parent().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(tokens), mode(store.path())), (0o700, 0o600));
    assert_eq!(mode(&store.path().with_extension("lock")), 0o600);

    let chmod = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chmod(store.path(), 0o640);
    let refused = store.get(&server(1), at(0)).unwrap_err();
    assert_eq!(refused.exit, Exit::Refused, "{refused}");
    chmod(store.path(), 0o600);
    chmod(tokens, 0o755);
    let refused = store.lock().unwrap_err();
    assert_eq!(refused.exit, Exit::Refused, "{refused}");
}

#[test]
fn room_is_taken_before_a_token_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    put(&store, 1, &token("one", 100));
    let first = store.room(at(0)).unwrap();
    let second = store.room(at(0)).unwrap();
    let taken = |text: &str| fs::read_to_string(store.path()).unwrap().contains(text);
    store
        .lock()
        .unwrap()
        .put(second, &server(2), &token("two", 100), at(0))
        .unwrap();
    assert!(taken("one") && taken("two") && !taken("\0"));
    drop(first);
    let files = fs::read_dir(store.path().parent().unwrap()).unwrap();
    assert_eq!(files.count(), 2, "the tokens and their lock");
    // Where a file cannot be made it is found out before.
    fs::remove_file(store.path()).unwrap();
    fs::create_dir(store.path()).unwrap();
    assert!(store.room(at(0)).is_err());
}

#[test]
fn nothing_of_it_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    assert!(!format!("{:?}", token("hush", 100)).contains("hush"));
    put(&store, 1, &token("hush", 100));
    let text = fs::read_to_string(store.path()).unwrap();
    for damaged in [
        text.replace('}', ""),
        text.replace("100", "\"hush\""),
        "[\"hush\"]".to_owned(),
    ] {
        fs::write(store.path(), damaged).unwrap();
        let failure = store.get(&server(1), at(0)).unwrap_err();
        assert!(!format!("{failure:?}").contains("hush"), "{failure:?}");
        assert!(failure.hint.is_some(), "{failure}");
    }
}

#[test]
fn of_many_at_once_none_is_lost() {
    const MANY: u16 = 8;
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let together = Barrier::new(MANY.into());
    thread::scope(|scope| {
        for port in 1..=MANY {
            let (store, together) = (&store, &together);
            scope.spawn(move || {
                together.wait();
                put(store, port, &token(&port.to_string(), 100));
            });
        }
    });
    for port in 1..=MANY {
        assert_eq!(kept(&store, port, 0), Some(port.to_string()));
    }
}

#[test]
fn a_service_is_no_path() {
    let directory = Path::new("/tmp");
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "A", "a b", "a\0"] {
        assert!(TokenStore::within(directory, name).is_err(), "{name:?}");
    }
    for name in ["mcias", "mc-proxy", "a.b_2"] {
        assert!(TokenStore::within(directory, name).is_ok(), "{name:?}");
    }
}

#[test]
fn files_that_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    assert_eq!(token_file(&path).unwrap_err().exit, Exit::Usage);
    for (description, text, mode, want) in [
        ("with a newline", "abc\n", 0o600, Ok("abc")),
        ("for a service's group", "abc", 0o640, Ok("abc")),
        ("for everybody", "abc", 0o644, Err(Exit::Refused)),
        ("empty", "\n", 0o600, Err(Exit::Usage)),
        ("two of them", "abc\ndef\n", 0o600, Err(Exit::Usage)),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let got = token_file(&path);
        let got = got.as_ref().map(|t| t.expose_secret()).map_err(|e| e.exit);
        assert_eq!(got, want, "{description}");
    }
}
