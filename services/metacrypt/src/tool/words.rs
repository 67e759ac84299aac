//! What the service answers in its own words, in those of the command line: options in the place of fields, commands in the place of methods, and what
//! there is to do.

use std::{path::Path, time::Duration};

use mcdsl::{
    cli::{Exit, Failure},
    human,
};

/// Fields, whose names are nothing else, and the options that say them.
const OPTIONS: &[(&str, &str)] = &[
    ("associated_data", "--about"),
    ("dns_names", "--dns"),
    ("dns_suffixes", "--below"),
    ("force_command", "--force-command"),
    ("ip_networks", "--ip"),
    ("key_algorithm", "--key-algorithm"),
    ("key_algorithms", "--key"),
    ("key_types", "--key-type"),
    ("max_ttl_s", "--max-ttl"),
    ("min_decryption_version", "--min-decryption-version"),
    ("min_version", "--below"),
    ("no_extensions", "--no-extensions"),
    ("permitted_dns", "--permit-dns"),
    ("excluded_dns", "--exclude-dns"),
    ("permitted_ips", "--permit-ip"),
    ("excluded_ips", "--exclude-ip"),
    ("private_key", "--key"),
    ("public_key", "--key"),
    ("rotate_after_s", "--rotate-after"),
    ("source_addresses", "--source"),
    ("ttl_s", "--ttl"),
    ("uri_prefixes", "--uri-below"),
    ("verify_required", "--verify-required"),
    ("account_type", "--account-type"),
    ("AES_256_GCM", "aes256-gcm"),
    ("AES_256_SIV", "aes256-siv"),
    ("SSH_KIND_HOST", "--host"),
    ("SSH_KIND_USER", "--user"),
];
/// The same of fields that are words, too: where a message begins with one.
const FIRST: &[(&str, &str)] = &[
    ("acme.description", "--acme-description"),
    ("acme.networks", "--acme-network"),
    ("action", "--action"),
    ("actions", "--action"),
    ("resource", "--resource"),
    ("resources", "--resource"),
    ("account", "--account"),
    ("accounts", "--account"),
    ("algorithm", "--algorithm"),
    ("below", "--below"),
    ("chain", "--chain"),
    ("ciphertexts", "the text"),
    ("sealed", "the text"),
    ("csr", "--csr"),
    ("extensions", "--extension"),
    ("issuer", "--issuer"),
    ("known_hash", "--known"),
    ("length", "--length"),
    ("meant", "--to"),
    ("names", "--name"),
    ("principals", "--principal"),
    ("recipients", "--to"),
    ("roles", "--role"),
    ("resolvers", "--resolver"),
    ("reason", "--reason"),
    ("uris", "--uri"),
    ("wildcards", "--wildcards"),
    ("server, client", "--for-server, --for-client"),
];
/// Methods, and the commands that call them.
const COMMANDS: &[(&str, &str)] = &[
    ("CreateAcmeKey", "`metacrypt pki acme key create`"),
    ("CreateCaKey", "`metacrypt ssh ca create`"),
    ("CreateKeys", "`metacrypt user join`"),
    ("CreateRevocation", "`metacrypt ssh revocation create`"),
    ("DeleteRevocation", "`metacrypt ssh revocation delete`"),
    ("ListRules", "`metacrypt policy list`"),
    ("Seal", "`metacrypt user seal`"),
    ("SetAcme", "`metacrypt pki acme set`"),
    ("SetDefault", "`metacrypt pki issuer update --make-default`"),
    ("Sign", "`metacrypt pki sign`"),
    ("UpdateIssuer", "`metacrypt pki issuer update`"),
    ("UpdateKey", "`metacrypt transit update`"),
    ("UseCaKey", "`metacrypt ssh ca use`"),
];

/// What is said in more than words.
const SENTENCES: &[(&str, &str)] = &[
    (
        "subjects is empty; write `anyone = true` if everybody is meant",
        "it says nobody; say --role, --account, --account-type or --tag, or --anyone if everybody is meant",
    ),
    (
        "`confirm` with its name says that it is meant",
        "--with-all says that it is meant",
    ),
];

fn sentences(mut message: String) -> String {
    for (said, here) in SENTENCES {
        message = message.replace(said, here);
    }
    message
}

/// The failure, as a person reads it who typed a command, and named the file of a token or not; `shown` is the command that shows its profile.
pub(super) fn told(failure: Failure, shown: &str, token_file: Option<&Path>) -> Failure {
    let Failure {
        exit,
        message,
        hint,
    } = failure;
    let message = lengths(&each_word(&first(&of_mount(sentences(message)))));
    // What is in the file is of use elsewhere.
    let elsewhere = message.contains("for another service");
    let hint = hint.map(|hint| match (hint.starts_with("log in ("), token_file) {
        (true, Some(_)) if elsewhere => "one for this service, in a file of its own: `mciasctl token issue ACCOUNT --service metacrypt --to FILE`".to_owned(),
        (true, Some(file)) => format!(
            "another token: `mciasctl token issue ACCOUNT --service metacrypt --to {} --replace`",
            file.display()
        ),
        (true, None) => "`mciasctl login --service metacrypt`".to_owned(),
        (false, _) => hint,
    });
    let hint = hint.or_else(|| hint_of(exit, shown, &message));
    Failure {
        exit,
        message,
        hint,
    }
}

/// A mount of a kind, as the service does not find it: `there is no pki "web"`.
fn of_mount(message: String) -> String {
    let found = message
        .strip_prefix("there is no ")
        .and_then(|rest| rest.split_once(" \""))
        .filter(|(engine, _)| matches!(*engine, "pki" | "ssh" | "transit" | "user"));
    match found {
        Some((engine, name)) => format!("there is no mount \"{name} of the engine {engine}"),
        None => message,
    }
}

/// A field that a message begins with.
fn first(message: &str) -> String {
    for (field, option) in FIRST {
        let Some(rest) = message.strip_prefix(field) else {
            continue;
        };
        // Of a list: which of them.
        let rest = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((_, rest)) => rest.strip_prefix(".name").unwrap_or(rest),
            None => rest,
        };
        if rest.starts_with(':') {
            return format!("{option}{rest}");
        }
    }
    message.to_owned()
}

/// Options and commands in the place of fields and methods, which are whole words.
fn each_word(text: &str) -> String {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(inner) {
        out.push_str(&rest[..start]);
        let word = &rest[start..];
        let end = word.find(|c| !inner(c)).unwrap_or(word.len());
        let word = &word[..end];
        let mut known = OPTIONS.iter().chain(COMMANDS);
        let said = known.find(|(name, _)| *name == word).map(|(_, said)| *said);
        // What is quoted, or a part of something longer, is somebody's own text. Two methods are words, too.
        let own = out.ends_with(['"', '-', '/', '`', '.', ':']);
        let meant = !own && (!matches!(word, "Seal" | "Sign") || out.ends_with('('));
        out.push_str(said.filter(|_| meant).unwrap_or(word));
        rest = &rest[start + end..];
    }
    out + rest
}

/// `86400 seconds` as `1d`, and `60 to 86400 seconds` as `1m to 1d`.
fn lengths(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let length = |word: &str| {
        let seconds = word.parse().ok()?;
        Some(human::duration(Duration::from_secs(seconds)))
    };
    let mut n = 1;
    while n < words.len() {
        if words[n].trim_end_matches([',', ';', ')']) == "seconds"
            && let Some(told) = length(&words[n - 1])
        {
            let end = words[n].trim_start_matches("seconds").to_owned();
            words[n - 1] = told + &*end;
            words.remove(n);
            if n >= 3
                && words[n - 2] == "to"
                && let Some(told) = length(&words[n - 3])
            {
                words[n - 3] = told;
            }
            continue;
        }
        n += 1;
    }
    words.join(" ")
}

/// What a rule has to name for an action on a resource, and how that is found: a certificate is judged by its profile, or the CA that it is of, which nobody is
/// told who may not read it.
fn judged(action: &str, resource: &str) -> (String, String) {
    let engine = action.split(':').next().unwrap_or_default();
    let Some((mount, serial)) = resource.split_once("/certificates/") else {
        return (resource.to_owned(), String::new());
    };
    let ca = match engine {
        "pki" => format!("; of a CA's '{mount}/issuers/<CA>'"),
        _ => String::new(),
    };
    (
        // No name, so that nobody asks about it as it is.
        format!("'{mount}/profiles/<PROFILE>'"),
        format!(
            " (the profile that `metacrypt {engine} certificate show {mount} {serial}` has{ca})"
        ),
    )
}

/// What there is to do.
fn hint_of(exit: Exit, shown: &str, message: &str) -> Option<String> {
    if exit == Exit::Unavailable && message.contains("sealed") {
        return Some("`metacrypt unseal` opens it".to_owned());
    }
    // "<account> may not <action> on <resource>"
    if exit == Exit::Refused
        && let Some((account, rest)) = message.split_once(" may not ")
        && let Some((action, resource)) = rest.split_once(" on ")
        && !account.contains(' ')
        && !resource.contains(' ')
    {
        let (resource, of) = judged(action, resource);
        return Some(format!(
            "an administrator sees why by `metacrypt policy explain --account {account} --action {action} --resource {resource}`{of} with the account's --role and --account-type, and allows it by `metacrypt policy put`"
        ));
    }
    if message.contains("the profile does not allow") {
        return Some(format!("`metacrypt {shown}` tells what it allows"));
    }
    if message.contains("with this associated data") {
        return Some(
            "say by --about what it was encrypted about, exactly; without --about if nothing was said"
                .to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_options_commands_and_lengths() {
        for (message, want) in [
            (
                "max_ttl_s: 60 to 315360000 seconds",
                "--max-ttl: 1m to 3650d",
            ),
            (
                "ttl_s: 60 to 86400 seconds, or nothing (as the profile says)",
                "--ttl: 1m to 1d, or nothing (as the profile says)",
            ),
            ("ttl_s: 60 seconds to max_ttl_s", "--ttl: 1m to --max-ttl"),
            ("names[1]: \"x_y\" is none", "--name: \"x_y\" is none"),
            ("a name max_ttl_s2 stays", "a name max_ttl_s2 stays"),
            (
                "the key is not deletable; say that it is (UpdateKey) first",
                "the key is not deletable; say that it is (`metacrypt transit update`) first",
            ),
            ("Sign it", "Sign it"),
            (
                "meant[1].name: it is none of `recipients`",
                "--to: it is none of `recipients`",
            ),
            (
                "let another one sign (UseCaKey) first",
                "let another one sign (`metacrypt ssh ca use`) first",
            ),
            (
                "sealed: this is nothing that was sealed (Seal)",
                "the text: this is nothing that was sealed (`metacrypt user seal`)",
            ),
            ("a request (Sign)", "a request (`metacrypt pki sign`)"),
            (
                "there is no pki \"web\"",
                "there is no mount \"web\" of the engine pki",
            ),
            ("there is no key \"web\"", "there is no key \"web\""),
            ("nothing of it", "nothing of it"),
            (
                "it is not removed, for it has a key; `confirm` with its name says that it is meant",
                "it is not removed, for it has a key; --with-all says that it is meant",
            ),
        ] {
            let failure = told(Failure::usage(message), "", None);
            assert_eq!(failure.message, want);
        }
    }

    #[test]
    fn there_is_something_to_do() {
        for (exit, message, want) in [
            (
                Exit::Unavailable,
                "the service is sealed",
                Some("`metacrypt unseal` opens it"),
            ),
            (
                Exit::Refused,
                "ada may not pki:issue on pki/profiles/web",
                Some(
                    "an administrator sees why by `metacrypt policy explain --account ada --action pki:issue --resource pki/profiles/web` with the account's --role and --account-type, and allows it by `metacrypt policy put`",
                ),
            ),
            (
                Exit::Refused,
                "ada may not ssh:revoke on ssh/certificates/17",
                Some(
                    "an administrator sees why by `metacrypt policy explain --account ada --action ssh:revoke --resource 'ssh/profiles/<PROFILE>'` (the profile that `metacrypt ssh certificate show ssh 17` has) with the account's --role and --account-type, and allows it by `metacrypt policy put`",
                ),
            ),
            (
                Exit::Refused,
                "ada may not pki:read on pki/certificates/6b",
                Some(
                    "an administrator sees why by `metacrypt policy explain --account ada --action pki:read --resource 'pki/profiles/<PROFILE>'` (the profile that `metacrypt pki certificate show pki 6b` has; of a CA's 'pki/issuers/<CA>') with the account's --role and --account-type, and allows it by `metacrypt policy put`",
                ),
            ),
            (
                Exit::Usage,
                "names: the profile does not allow a.example; it allows b.example",
                Some("`metacrypt pki profile show pki/web` tells what it allows"),
            ),
            (Exit::Refused, "it is full", None),
        ] {
            let failure = told(
                Failure::new(exit, message),
                "pki profile show pki/web",
                None,
            );
            assert_eq!(failure.hint.as_deref(), want, "{message}");
        }
    }
}
