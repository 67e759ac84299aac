-- What opens the seal, and what is behind it. Times are seconds since the epoch.
CREATE TABLE seal (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Which master key it is: each rotation makes the next.
    generation INTEGER NOT NULL,
    made_s INTEGER NOT NULL
) STRICT;
CREATE TABLE key_slot (
    kind TEXT PRIMARY KEY,
    -- JSON.
    parameters TEXT NOT NULL,
    master_key BLOB NOT NULL
) STRICT;
CREATE TABLE attempt (
    origin TEXT PRIMARY KEY,
    failed INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE known_network (
    network TEXT PRIMARY KEY,
    opened_s INTEGER NOT NULL
) STRICT;
CREATE TABLE mount (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    engine TEXT NOT NULL,
    made_s INTEGER NOT NULL,
    data_key BLOB NOT NULL
) STRICT;
-- Values are sealed with the mount's data key, as what and where they are.
CREATE TABLE item (
    mount TEXT NOT NULL REFERENCES mount (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (mount, path)
) STRICT, WITHOUT ROWID;
