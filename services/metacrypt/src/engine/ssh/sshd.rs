//! A real sshd and certificates whose time is over, which a test of the whole service could only wait for.

use std::{fs, time::SystemTime};

use mc_testkit::sshd::{CLIENT, Sshd, keygen};

use super::{
    authority::{Algorithm, Kind},
    certificate::issue,
    key::SubjectKey,
    seconds,
    testing::{ada, ca, people, stamp, wanted},
};

#[test]
fn sshd_takes_a_certificate_for_as_long_as_it_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256] {
        let ca = ca(algorithm);
        fs::write(at.join("user-ca"), ca.line() + "\n").unwrap();
        fs::write(at.join("principals"), "ada\n").unwrap();
        let here = at.display();
        let lines = format!(
            "TrustedUserCAKeys {here}/user-ca\nAuthorizedPrincipalsFile {here}/principals\n"
        );
        let sshd = Sshd::start(at, &lines).unwrap();
        let host = fs::read_to_string(at.join("host.pub")).unwrap();
        fs::write(at.join("known_hosts"), format!("host {host}")).unwrap();
        let now_s = seconds(SystemTime::now());
        for (description, made_s, good) in [
            ("now", now_s, true),
            ("until a minute ago", now_s - 3660, false),
            ("from in an hour on", now_s + 3600, false),
        ] {
            let _ = fs::remove_file(at.join("key"));
            let key = SubjectKey::parse(&keygen(at, "key").unwrap()).unwrap();
            let wanted = wanted(Kind::User, &key, &["ada"]);
            let made = issue(&ada("people"), &people(), &wanted, &ca, stamp(1, made_s)).unwrap();
            fs::write(at.join("key-cert.pub"), made.line + "\n").unwrap();
            let output = sshd.login("key", CLIENT, "host").unwrap();
            let said = sshd.output();
            assert_eq!(
                output.status.success(),
                good,
                "{description}: {output:?}, {said}"
            );
            if good {
                assert_eq!(output.stdout, b"in\n", "{description}");
            }
        }
        let said = sshd.output();
        assert!(said.contains("Certificate invalid: expired"), "{said}");
        assert!(
            said.contains("Certificate invalid: not yet valid"),
            "{said}"
        );
    }
}
