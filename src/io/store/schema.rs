//! The schema, one step a version, for each database; what landed is never edited, only added to.

/// A step.
#[derive(Debug)]
pub(super) struct Migration {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// All steps, from nothing.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        sqlite: "
    CREATE TABLE rooms (
        name TEXT PRIMARY KEY NOT NULL,
        settings TEXT NOT NULL,
        locked INTEGER NOT NULL,
        subject TEXT,
        subject_nick TEXT,
        subject_at INTEGER
    ) STRICT;
    CREATE TABLE affiliations (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        who TEXT NOT NULL,
        affiliation TEXT NOT NULL,
        reason TEXT,
        PRIMARY KEY (room, kind, who)
    ) STRICT;
    CREATE TABLE users (
        jid TEXT PRIMARY KEY NOT NULL,
        aor TEXT NOT NULL UNIQUE,
        name TEXT,
        md5 TEXT,
        sha256 TEXT
    ) STRICT;
",
        postgres: "
    CREATE TABLE rooms (
        name TEXT PRIMARY KEY,
        settings TEXT NOT NULL,
        locked BOOLEAN NOT NULL,
        subject TEXT,
        subject_nick TEXT,
        subject_at BIGINT
    );
    CREATE TABLE affiliations (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        who TEXT NOT NULL,
        affiliation TEXT NOT NULL,
        reason TEXT,
        PRIMARY KEY (room, kind, who)
    );
    CREATE TABLE users (
        jid TEXT PRIMARY KEY,
        aor TEXT NOT NULL UNIQUE,
        name TEXT,
        md5 TEXT,
        sha256 TEXT
    );
",
    },
    Migration {
        sqlite: "
    CREATE TABLE archives (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        -- None: the room is no more, and the messages are still to be deleted.
        room TEXT UNIQUE
    ) STRICT;
    CREATE TABLE messages (
        -- In the order in which they were said.
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        archive INTEGER NOT NULL REFERENCES archives (number),
        id TEXT NOT NULL,
        sent_id TEXT,
        at INTEGER NOT NULL,
        jid TEXT,
        nick TEXT,
        kind TEXT NOT NULL,
        stanza TEXT NOT NULL,
        UNIQUE (archive, id)
    ) STRICT;
    CREATE INDEX messages_in_order ON messages (archive, number);
    CREATE INDEX messages_by_time ON messages (archive, at);
    -- Whoever configured these rooms was not asked about an archive.
    UPDATE rooms SET settings = json_set(settings, '$.archive', json('false'));
",
        postgres: "
    CREATE TABLE archives (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        -- None: the room is no more, and the messages are still to be deleted.
        room TEXT UNIQUE
    );
    CREATE TABLE messages (
        -- In the order in which they were said.
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        archive BIGINT NOT NULL REFERENCES archives (number),
        id TEXT NOT NULL,
        sent_id TEXT,
        at BIGINT NOT NULL,
        jid TEXT,
        nick TEXT,
        kind TEXT NOT NULL,
        stanza TEXT NOT NULL,
        UNIQUE (archive, id)
    );
    CREATE INDEX messages_in_order ON messages (archive, number);
    CREATE INDEX messages_by_time ON messages (archive, at);
    -- Whoever configured these rooms was not asked about an archive.
    UPDATE rooms SET settings = jsonb_set(settings::jsonb, '{archive}', 'false')::text;
",
    },
    Migration {
        sqlite: "
    CREATE TABLE nicks (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        jid TEXT NOT NULL,
        nick TEXT NOT NULL,
        PRIMARY KEY (room, jid)
    ) STRICT;
    CREATE TABLE avatars (
        room TEXT PRIMARY KEY NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        media_type TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
",
        postgres: "
    CREATE TABLE nicks (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        jid TEXT NOT NULL,
        nick TEXT NOT NULL,
        PRIMARY KEY (room, jid)
    );
    CREATE TABLE avatars (
        room TEXT PRIMARY KEY REFERENCES rooms (name) ON DELETE CASCADE,
        media_type TEXT NOT NULL,
        data BYTEA NOT NULL
    );
",
    },
    Migration {
        sqlite: "
    -- Who may write, and how many of its transactions are done: one row.
    CREATE TABLE writer (
        number INTEGER NOT NULL,
        writes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO writer VALUES (0, 0);
    -- By whom, in the order in which it was said.
    CREATE INDEX messages_by_jid ON messages (archive, jid, number);
    CREATE INDEX messages_by_nick ON messages (archive, nick, number);
",
        postgres: "
    -- Who may write, and how many of its transactions are done: one row.
    CREATE TABLE writer (
        number BIGINT NOT NULL,
        writes BIGINT NOT NULL
    );
    INSERT INTO writer VALUES (0, 0);
    -- By whom, in the order in which it was said.
    CREATE INDEX messages_by_jid ON messages (archive, jid, number);
    CREATE INDEX messages_by_nick ON messages (archive, nick, number);
",
    },
    Migration {
        sqlite: "
    -- As JSON: the hats that owners made, and who wears them.
    CREATE TABLE hats (
        room TEXT PRIMARY KEY NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        hats TEXT NOT NULL
    ) STRICT;
",
        postgres: "
    -- As JSON: the hats that owners made, and who wears them.
    CREATE TABLE hats (
        room TEXT PRIMARY KEY REFERENCES rooms (name) ON DELETE CASCADE,
        hats TEXT NOT NULL
    );
",
    },
    Migration {
        sqlite: "
    -- Who asks to become a member, and under which nick.
    CREATE TABLE requests (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        jid TEXT NOT NULL,
        nick TEXT NOT NULL,
        PRIMARY KEY (room, jid)
    ) STRICT;
",
        postgres: "
    -- Who asks to become a member, and under which nick.
    CREATE TABLE requests (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        jid TEXT NOT NULL,
        nick TEXT NOT NULL,
        PRIMARY KEY (room, jid)
    );
",
    },
];
