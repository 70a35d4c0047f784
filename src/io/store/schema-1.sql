-- A store as the first schema had it.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE rooms (
        name TEXT PRIMARY KEY NOT NULL,
        settings TEXT NOT NULL,
        locked INTEGER NOT NULL,
        subject TEXT,
        subject_nick TEXT,
        subject_at INTEGER
    ) STRICT;
INSERT INTO rooms VALUES('standup','{"name":"Stand-up","description":"","moderated":false,"members_only":true,"password":"swordfish","max_users":null,"persistent":true,"public":true,"whois":"moderators","change_subject":false,"history":20}',0,'Daily','Alice',1793534400);
INSERT INTO rooms VALUES('townhall','{"name":"","description":"","moderated":true,"members_only":false,"password":null,"max_users":null,"persistent":true,"public":true,"whois":"moderators","change_subject":false,"history":20}',1,NULL,NULL,NULL);
CREATE TABLE affiliations (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        who TEXT NOT NULL,
        affiliation TEXT NOT NULL,
        reason TEXT,
        PRIMARY KEY (room, kind, who)
    ) STRICT;
INSERT INTO affiliations VALUES('standup','jid','eve@example.org','outcast','noise');
CREATE TABLE users (
        jid TEXT PRIMARY KEY NOT NULL,
        aor TEXT NOT NULL UNIQUE,
        name TEXT,
        md5 TEXT,
        sha256 TEXT
    ) STRICT;
INSERT INTO users VALUES('alice@example.org','sip:alice@conf.example.org','Alice','54baeffceffe7edeac3a5c817b6f9d06','a9fa234d1955894c6902d1e1d90b3ce84a502d99ad15337b841665810dd5e1c7');
COMMIT;
PRAGMA user_version = 1;
