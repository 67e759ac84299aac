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
    -- Never used again: who was in a mount that was removed is in no other.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    -- NULL: it was removed, its data key with it, and its values are being deleted.
    name TEXT UNIQUE,
    engine TEXT NOT NULL,
    made_s INTEGER NOT NULL,
    data_key BLOB NOT NULL
) STRICT;
-- Values are sealed with the mount's data key, as what and where they are. With a number of their own: values of any length among the paths would leave few
-- paths on a page, and the index has all that a list of names reads.
CREATE TABLE item (
    number INTEGER PRIMARY KEY,
    mount INTEGER NOT NULL REFERENCES mount (number),
    path TEXT NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (mount, path)
) STRICT;
