//! The schema. A migration never changes once released; add one.

use mcdsl::db::Migration;

pub(super) const MIGRATIONS: [Migration; 4] = [FIRST, L7, REDIRECT, RULE_IDS];

const RULE_IDS: Migration = Migration {
    version: 4,
    name: "the rule id to hand out next",
    sql: "
CREATE TABLE rule_ids (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    next INTEGER NOT NULL
) STRICT;
INSERT INTO rule_ids (one, next) SELECT 1, coalesce(max(id) + 1, 16) FROM rules;
",
};

const REDIRECT: Migration = Migration {
    version: 3,
    name: "listeners that redirect to https",
    sql: "ALTER TABLE listeners ADD COLUMN redirect INTEGER CHECK (redirect BETWEEN 1 AND 65535);",
};

const L7: Migration = Migration {
    version: 2,
    name: "L7 settings of a route, JSON",
    sql: "ALTER TABLE routes ADD COLUMN l7 TEXT;",
};

const FIRST: Migration = Migration {
    version: 1,
    name: "listeners, routes, rules, country policy, rates, audit",
    sql: "
CREATE TABLE listeners (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    address  TEXT NOT NULL UNIQUE,
    guarded  INTEGER NOT NULL CHECK (guarded IN (0, 1))
) STRICT;
CREATE TABLE listener_proxies (
    listener INTEGER NOT NULL REFERENCES listeners ON DELETE CASCADE,
    position INTEGER NOT NULL,
    cidr     TEXT NOT NULL,
    PRIMARY KEY (listener, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE routes (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    port               INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    hostname           TEXT NOT NULL,
    engine             TEXT CHECK (engine IN ('copy', 'sockmap')),
    enabled            INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    send_proxy         INTEGER NOT NULL CHECK (send_proxy IN (0, 1)),
    connect_timeout_ms INTEGER,
    idle_timeout_ms    INTEGER,
    max_age_ms         INTEGER,
    max_connections    INTEGER,
    UNIQUE (port, hostname)
) STRICT;
CREATE TABLE route_backends (
    route    INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE,
    position INTEGER NOT NULL,
    address  TEXT NOT NULL,
    PRIMARY KEY (route, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE rules (
    id              INTEGER PRIMARY KEY CHECK (id BETWEEN 16 AND 32767),
    kind            TEXT NOT NULL CHECK (kind IN ('allow', 'block', 'ban')),
    cidr            TEXT NOT NULL,
    action          TEXT NOT NULL CHECK (action IN ('drop', 'reset', 'observe')),
    expires_unix_ms INTEGER,
    comment         TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    UNIQUE (kind, cidr)
) STRICT;
CREATE INDEX rules_expiry ON rules (expires_unix_ms) WHERE expires_unix_ms IS NOT NULL;

-- At most one row: the action for countries that are not listed.
CREATE TABLE country_others (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    action TEXT NOT NULL CHECK (action IN ('drop', 'reset', 'observe'))
) STRICT;
CREATE TABLE countries (
    code   TEXT PRIMARY KEY CHECK (length(code) = 2),
    action TEXT NOT NULL CHECK (action IN ('drop', 'reset', 'observe'))
) STRICT, WITHOUT ROWID;

CREATE TABLE rates (
    what       TEXT PRIMARY KEY CHECK (what IN ('connections', 'packets')),
    per_second REAL NOT NULL CHECK (per_second > 0),
    burst      INTEGER NOT NULL CHECK (burst >= 1),
    action     TEXT NOT NULL CHECK (action IN ('drop', 'reset', 'observe'))
) STRICT, WITHOUT ROWID;

CREATE TABLE marks (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at_unix_ms INTEGER NOT NULL,
    uid        INTEGER,
    pid        INTEGER,
    source     TEXT NOT NULL,
    action     TEXT NOT NULL,
    detail     TEXT NOT NULL,
    result     TEXT NOT NULL
) STRICT;
",
};
