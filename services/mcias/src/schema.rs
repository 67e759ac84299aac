//! The database.

use mcdsl::{audit, db::Migration, web::SESSIONS_SQL};

/// Times are seconds since the epoch. Lists that are read and written as a whole are JSON.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "audit log",
        sql: audit::SCHEMA,
    },
    Migration {
        version: 2,
        name: "identity",
        sql: IDENTITY,
    },
    Migration {
        version: 3,
        name: "sessions of pages",
        sql: SESSIONS_SQL,
    },
    Migration {
        version: 4,
        name: "OpenID Connect",
        sql: OPENID_CONNECT,
    },
    Migration {
        version: 5,
        name: "new devices",
        sql: NEW_DEVICES,
    },
    Migration {
        version: 6,
        name: "enrolments of their login",
        sql: ENROLMENTS,
    },
    Migration {
        version: 7,
        name: "audit log by name",
        sql: audit::BY_NAME,
    },
    Migration {
        version: 8,
        name: "names and addresses of people",
        sql: CONTACTS,
    },
];

const IDENTITY: &str = "
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE account (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL CHECK (type IN ('human', 'system')),
    status TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'locked')),
    second_factor_required INTEGER NOT NULL CHECK (second_factor_required IN (0, 1)),
    created_s INTEGER NOT NULL,
    last_login_s INTEGER,
    password TEXT,
    password_changed_s INTEGER,
    password_expired INTEGER NOT NULL DEFAULT 0 CHECK (password_expired IN (0, 1)),
    CHECK (type = 'human' OR password IS NULL)
) STRICT;
CREATE TABLE account_role (
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('admin', 'user', 'guest')),
    PRIMARY KEY (account, role)
) STRICT, WITHOUT ROWID;
CREATE TABLE account_tag (
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (account, tag)
) STRICT, WITHOUT ROWID;

-- A secret is sealed. One that is not confirmed yet counts for nothing. last_step: the latest whose code was used.
CREATE TABLE totp (
    account TEXT PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    secret BLOB NOT NULL,
    confirmed INTEGER NOT NULL CHECK (confirmed IN (0, 1)),
    last_step INTEGER NOT NULL,
    created_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE recovery_code (
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (account, hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE passkey (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    name TEXT NOT NULL,
    credential_id BLOB NOT NULL UNIQUE,
    credential TEXT NOT NULL,
    created_s INTEGER NOT NULL,
    used_s INTEGER
) STRICT;
CREATE INDEX passkey_account ON passkey (account);

-- Of WebAuthn, that was finished: until it would be over in any case.
CREATE TABLE ceremony (hash BLOB PRIMARY KEY CHECK (length(hash) = 32), until_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- What was guessed at: a name, or a name from a network that its owner logs in from.
CREATE TABLE guesses (
    key TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    today INTEGER NOT NULL,
    last_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX guesses_last ON guesses (last_s);
CREATE TABLE known_device (
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    network TEXT NOT NULL,
    device TEXT NOT NULL,
    last_s INTEGER NOT NULL,
    PRIMARY KEY (account, network, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE ban (
    network TEXT PRIMARY KEY,
    until_s INTEGER NOT NULL,
    bans INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A login. token: the id of its token now; expires_s: of that token; ends_s: it is not renewed beyond.
CREATE TABLE session (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    service TEXT NOT NULL,
    token TEXT NOT NULL,
    created_s INTEGER NOT NULL,
    used_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    ends_s INTEGER NOT NULL,
    source TEXT NOT NULL,
    device TEXT NOT NULL,
    methods TEXT NOT NULL
) STRICT;
CREATE INDEX session_account ON session (account, created_s);
CREATE INDEX session_expires ON session (expires_s);

-- Tokens of system accounts.
CREATE TABLE token (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    kid TEXT NOT NULL,
    issued_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    services TEXT NOT NULL,
    comment TEXT NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1))
) STRICT;
CREATE INDEX token_account ON token (account);
CREATE INDEX token_kid ON token (kid, expires_s);

CREATE TABLE revocation (
    what TEXT NOT NULL CHECK (what IN ('token', 'session', 'account', 'everything')),
    id TEXT NOT NULL,
    issued_until_s INTEGER NOT NULL,
    forget_s INTEGER NOT NULL,
    PRIMARY KEY (what, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocation_forget ON revocation (forget_s);

-- private: sealed; gone when the key is retired.
CREATE TABLE signing_key (
    kid TEXT PRIMARY KEY,
    public BLOB NOT NULL CHECK (length(public) = 32),
    private BLOB,
    created_s INTEGER NOT NULL,
    retired_s INTEGER
) STRICT;
CREATE UNIQUE INDEX signing_key_in_use ON signing_key (retired_s IS NULL) WHERE retired_s IS NULL;

CREATE TABLE rule (
    name TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    second_factor INTEGER NOT NULL CHECK (second_factor IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE TABLE service (
    name TEXT PRIMARY KEY,
    tags TEXT NOT NULL,
    redirect_uris TEXT NOT NULL,
    post_logout_redirect_uris TEXT NOT NULL,
    public_client INTEGER NOT NULL CHECK (public_client IN (0, 1)),
    secret BLOB CHECK (secret IS NULL OR length(secret) = 32),
    comment TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

const NEW_DEVICES: &str = "
-- new_s: when the first login from there was, by methods and to service, while the owner has not said that it was him.
ALTER TABLE known_device ADD COLUMN new_s INTEGER;
ALTER TABLE known_device ADD COLUMN service TEXT NOT NULL DEFAULT '';
ALTER TABLE known_device ADD COLUMN methods TEXT NOT NULL DEFAULT '[]';
";

const ENROLMENTS: &str = "
-- session: the login that began it, and alone may confirm it.
ALTER TABLE totp ADD COLUMN session TEXT NOT NULL DEFAULT '';
";

const CONTACTS: &str = "
ALTER TABLE account ADD COLUMN display_name TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN email TEXT NOT NULL DEFAULT '';
";

/// Of what is secret there are hashes alone.
const OPENID_CONNECT: &str = "
-- challenge: SHA-256 of the verifier, as it was sent. session: what it was exchanged for; of one that was tried in vain, empty.
CREATE TABLE oidc_code (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    client TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    challenge TEXT NOT NULL,
    nonce TEXT,
    scopes TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
    login TEXT NOT NULL,
    expires_s INTEGER NOT NULL,
    session TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX oidc_code_account ON oidc_code (account, expires_s);
CREATE INDEX oidc_code_expires ON oidc_code (expires_s);

-- What a client has of a login: session is its own, login the one at this service that it was given by. family is in each of its refresh
-- tokens, latest in the last alone.
CREATE TABLE oidc_grant (
    session TEXT PRIMARY KEY REFERENCES session ON DELETE CASCADE,
    login TEXT NOT NULL,
    account TEXT NOT NULL,
    scopes TEXT NOT NULL,
    auth_s INTEGER NOT NULL,
    family BLOB NOT NULL UNIQUE CHECK (length(family) = 32),
    latest BLOB NOT NULL CHECK (length(latest) = 32)
) STRICT, WITHOUT ROWID;
CREATE INDEX oidc_grant_login ON oidc_grant (login);
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sqls() {
        let directory = tempfile::tempdir().unwrap();
        mcdsl::db::open(&directory.path().join("a.db"), MIGRATIONS).unwrap();
    }
}
