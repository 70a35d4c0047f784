//! What a store promises, on both databases.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::*;
use crate::room::settings::Settings;
use postgres::{PASSWORD, Postgres};

#[path = "../../../tests/support/postgres.rs"]
pub(in crate::io) mod postgres;

/// A database of its own, gone with the value.
pub(in crate::io) struct Scratch {
    url: String,
    /// Of a database in a file.
    folder: Option<PathBuf>,
}

impl Scratch {
    pub(in crate::io) fn sqlite(name: &str) -> Self {
        let name = format!("cusaxd-store-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self { url: format!("sqlite:{}", folder.join("test.db").display()), folder: Some(folder) }
    }

    /// `None`, with a message, where PostgreSQL is not installed.
    pub(in crate::io) fn postgres(name: &str) -> Option<Self> {
        static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
        let server = SERVER.get_or_init(Postgres::start).as_ref()?;
        Some(Self { url: server.database(name), folder: None })
    }

    pub(in crate::io) fn url(&self) -> &str {
        &self.url
    }

    pub(in crate::io) fn is_sqlite(&self) -> bool {
        self.folder.is_some()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.folder.take().map(std::fs::remove_dir_all));
    }
}

/// The same tests on both databases.
macro_rules! on_both {
    ($($test:ident)*) => { $(mod $test {
        use crate::io::store::tests::Scratch;

        #[tokio::test]
        async fn sqlite() {
            super::$test(&Scratch::sqlite(stringify!($test))).await;
        }

        #[tokio::test]
        async fn postgres() {
            if let Some(scratch) = Scratch::postgres(stringify!($test)) {
                super::$test(&scratch).await;
            }
        }
    })* };
}
pub(in crate::io) use on_both;

on_both! {
    gives_back_what_was_written_after_a_restart
    nicks_pictures_and_hats_go_with_their_room
    writes_all_or_nothing
    refuses_a_schema_from_the_future
    what_newcomers_are_told_outlasts_a_restart
    archives_go_with_their_rooms_and_messages_with_time
    one_server_at_a_time_has_the_store
    who_was_replaced_writes_nothing_more
    what_was_done_unnoticed_is_not_done_twice
}

fn room(name: &str) -> StoredRoom {
    StoredRoom {
        name: RoomName::new(name).unwrap(),
        settings: Settings { persistent: true, ..Settings::default() },
        locked: false,
        subject: None,
    }
}

fn user(jid: &str, aor: &str) -> User {
    let secret = Some(Secret { md5: "0f".to_owned(), sha256: "1f".to_owned() });
    let name = Some("Ötzi".to_owned());
    User { jid: BareJid::new(jid).unwrap(), aor: aor.parse().unwrap(), name, secret }
}

fn affiliation(room: &StoredRoom, who: &Who, affiliation: Affiliation) -> Row {
    let (room, who) = (room.name.clone(), who.clone());
    Row::Affiliation { room, who, affiliation, reason: Some("why".to_owned()) }
}

async fn gives_back_what_was_written_after_a_restart(scratch: &Scratch) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    assert_eq!(store.load().await.unwrap(), Snapshot::default());

    let cave = StoredRoom {
        locked: true,
        settings: Settings {
            name: "Höhle".to_owned(),
            password: Some("sesame".to_owned()),
            max_users: Some(7),
            persistent: true,
            ..Settings::default()
        },
        subject: Some((
            "spells".to_owned(),
            "Hecate".to_owned(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        )),
        ..room("cave")
    };
    let owner = Who::Jid(BareJid::new("hecate@example.org").unwrap());
    let banned = Who::Aor("sip:macbeth@example.org".parse().unwrap());
    let rows = [
        Row::Room(room("cave")),
        Row::Room(cave.clone()),
        affiliation(&cave, &owner, Affiliation::Owner),
        affiliation(&cave, &banned, Affiliation::Member),
        affiliation(&cave, &banned, Affiliation::Outcast),
        Row::User(user("a@example.org", "sip:1@example.org")),
    ];
    store.write(&rows).await.unwrap();
    // Not closed: as after a crash.
    drop(store);

    let mut store = Store::open(scratch.url()).await.unwrap();
    let snapshot = store.load().await.unwrap();
    assert_eq!(snapshot.users, [user("a@example.org", "sip:1@example.org")]);
    let [(stored, affiliations)] = snapshot.rooms.as_slice() else { panic!("{snapshot:?}") };
    assert_eq!(*stored, cave);
    let expected = [(banned.clone(), Affiliation::Outcast), (owner, Affiliation::Owner)];
    assert_eq!(affiliations.len(), 2);
    assert!(expected.iter().all(|entry| affiliations.contains(entry)), "{affiliations:?}");

    let rows = [affiliation(&cave, &banned, Affiliation::None), Row::NoRoom(cave.name.clone())];
    store.write(&rows[..1]).await.unwrap();
    assert_eq!(store.load().await.unwrap().rooms[0].1.len(), 1);
    store.write(&rows[1..]).await.unwrap();
    assert_eq!(store.load().await.unwrap().rooms, []);
}

async fn nicks_pictures_and_hats_go_with_their_room(scratch: &Scratch) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    let (cave, jid) = (room("cave"), BareJid::new("hecate@example.org").unwrap());
    let nick = |nick: Option<&str>| Row::Nick {
        room: cave.name.clone(),
        jid: jid.clone(),
        nick: nick.map(|nick| Nick::new(nick).unwrap()),
    };
    let request = |nick: Option<&str>| Row::Request {
        room: cave.name.clone(),
        jid: jid.clone(),
        nick: nick.map(|nick| Nick::new(nick).unwrap()),
    };
    let picture = |byte| Arc::new(Avatar::new("image/png", vec![byte; 1_000]).unwrap());
    let avatar = |avatar: Option<Arc<Avatar>>| Row::Avatar { room: cave.name.clone(), avatar };
    let hats = |made: &str| Row::Hats {
        room: cave.name.clone(),
        hats: serde_json::from_str(made).unwrap(),
    };
    let worn = r#"{ "made": { "urn:x": { "title": "Chief", "hue": "1.5" } },
                    "worn": { "hecate@example.org": ["urn:x"] } }"#;
    let rows = [
        Row::Room(cave.clone()),
        nick(Some("Witch")),
        nick(Some("Third Witch")),
        request(Some("Fourth Witch")),
        request(Some("Fifth Witch")),
        avatar(Some(picture(0))),
        avatar(Some(picture(255))),
        hats("{}"),
        hats(worn),
    ];
    store.write(&rows).await.unwrap();
    drop(store);
    let mut store = Store::open(scratch.url()).await.unwrap();
    let snapshot = store.load().await.unwrap();
    let kept = (cave.name.clone(), jid.clone(), Nick::new("Third Witch").unwrap());
    assert_eq!(snapshot.nicks, [kept]);
    let kept = (cave.name.clone(), jid.clone(), Nick::new("Fifth Witch").unwrap());
    assert_eq!(snapshot.requests, [kept]);
    assert_eq!(snapshot.avatars, [(cave.name.clone(), picture(255))]);
    assert_eq!(snapshot.hats, [(cave.name.clone(), serde_json::from_str(worn).unwrap())]);

    store.write(&[nick(None), request(None), avatar(None)]).await.unwrap();
    let emptied = store.load().await.unwrap();
    let left = [emptied.nicks.len(), emptied.requests.len(), emptied.avatars.len()];
    assert_eq!(left, [0, 0, 0]);

    store.write(&rows[1..]).await.unwrap();
    store.write(&[Row::NoRoom(cave.name.clone())]).await.unwrap();
    assert_eq!(store.load().await.unwrap(), Snapshot::default());
}

async fn writes_all_or_nothing(scratch: &Scratch) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    store.write(&[Row::User(user("a@x", "sip:1@x"))]).await.unwrap();
    let rows = [Row::Room(room("cave")), Row::User(user("b@x", "sip:1@x"))];
    let done = store.write(&rows).await;
    assert!(matches!(done, Err(NotWritten::Unfit(_))), "an address has one owner: {done:?}");
    drop(store);
    let mut store = Store::open(scratch.url()).await.unwrap();
    let snapshot = store.load().await.unwrap();
    assert_eq!((snapshot.rooms.len(), snapshot.users.len()), (0, 1));
    store.write(&rows[..1]).await.unwrap();
    assert_eq!(store.load().await.unwrap().rooms.len(), 1);
}

async fn refuses_a_schema_from_the_future(scratch: &Scratch) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    store.connection.as_mut().unwrap().set_version(99).await.unwrap();
    store.close().await.unwrap();
    let why = format!("{:#}", Store::open(scratch.url()).await.unwrap_err());
    assert!(why.contains("schema 99"), "{why}");
}

fn message(id: &str, day: u64) -> Said {
    let stanza = "<message xmlns='jabber:client'><body>x</body></message>".parse().unwrap();
    Said {
        author: Some(Author {
            jid: Some(BareJid::new("hecate@example.org").unwrap()),
            nick: Nick::new("Hecate").unwrap(),
        }),
        id: None,
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400),
        kind: Kind::Message,
        payload: Payload {
            stanza: Arc::new(stanza),
            lasting: true,
            text: true,
            stanza_id: Some(id.to_owned()),
        },
    }
}

fn archived(room: &str, said: Said) -> Row {
    Row::Archived { room: RoomName::new(room).unwrap(), said }
}

async fn messages(store: &mut Store) -> Vec<String> {
    let connection = store.connection.as_mut().unwrap();
    let rows = connection.all("SELECT id FROM messages ORDER BY number", []).await.unwrap();
    rows.iter().map(|row| row.get("id").unwrap()).collect()
}

#[test]
fn xml_comes_back_as_it_was() {
    let deep = format!("{}{}", "<a xmlns='d'>".repeat(60), "</a>".repeat(60));
    for inside in [
        "<body>x</body>",
        "<body xml:lang='de'>&lt;&amp;&gt;&#39;&quot;]]&gt;</body><body>2</body>",
        "<body>a\nb\tc&#13;&#10;d  </body>",
        "<p:a xmlns:p='p' p:b='1' b='2'><p:c/><c xmlns=''><d/></c></p:a>",
        "<x xmlns='a&apos;&lt;&amp;b' y='&#10;&#9;&apos;&quot;&lt;&amp;'>t<z/>u</x>",
        "<q:a xmlns:q='q1' xmlns:r='q2' q:b='1' r:b='2' xml:lang='en'/>",
        &deep,
    ] {
        let xml = format!("<message xmlns='jabber:client' type='groupchat'>{inside}</message>");
        let stanza: Element = xml.parse().unwrap();
        let written = super::text(&stanza).unwrap();
        assert_eq!(written.parse::<Element>().unwrap(), stanza, "{written}");
    }
}

/// A store as an old schema had it, with everything that it could hold.
async fn old(scratch: &Scratch, version: usize) {
    let mut old = Place::parse(scratch.url()).unwrap().connect(Access::Write).await.unwrap();
    old.version().await.unwrap();
    for migration in &MIGRATIONS[..version] {
        let step = if scratch.is_sqlite() { migration.sqlite } else { migration.postgres };
        old.run(step).await.unwrap();
    }
    old.set_version(version).await.unwrap();
    old.run(
        r#"INSERT INTO rooms VALUES
         ('standup', '{"name":"Stand-up","description":"","moderated":false,"members_only":true,"password":"swordfish","max_users":null,"persistent":true,"public":true,"whois":"moderators","change_subject":false,"history":20}', false, 'Daily', 'Alice', 1793534400),
         ('townhall', '{"name":"","description":"","moderated":true,"members_only":false,"password":null,"max_users":null,"persistent":true,"public":true,"whois":"moderators","change_subject":false,"history":20}', true, NULL, NULL, NULL);
         INSERT INTO affiliations VALUES ('standup', 'jid', 'eve@example.org', 'outcast', 'noise');
         INSERT INTO users VALUES ('alice@example.org', 'sip:alice@conf.example.org', 'Alice',
         '54baeffceffe7edeac3a5c817b6f9d06',
         'a9fa234d1955894c6902d1e1d90b3ce84a502d99ad15337b841665810dd5e1c7')"#,
    )
    .await
    .unwrap();
    if version >= 2 {
        old.run(
            "INSERT INTO archives (room) VALUES ('standup');
             INSERT INTO messages (archive, id, at, jid, nick, kind, stanza) VALUES
             (1, 'm0', 86400, 'eve@example.org', 'Eve', 'message',
             '<message xmlns=''jabber:client''><body>x</body></message>')",
        )
        .await
        .unwrap();
    }
    if version >= 3 {
        old.run("INSERT INTO nicks VALUES ('standup', 'alice@example.org', 'Alice')")
            .await
            .unwrap();
    }
    old.close().await.unwrap();
}

async fn is_as_it_was(scratch: &Scratch, version: usize) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    let snapshot = store.load().await.unwrap();
    let [(standup, affiliations), (townhall, none)] = snapshot.rooms.as_slice() else {
        panic!("{snapshot:?}");
    };
    assert_eq!(standup.name.as_str(), "standup");
    assert_eq!(standup.settings.name, "Stand-up");
    assert_eq!(standup.settings.password.as_deref(), Some("swordfish"));
    assert_eq!(standup.subject.as_ref().unwrap().0, "Daily");
    let who = Who::Jid(BareJid::new("eve@example.org").unwrap());
    assert_eq!(affiliations.as_slice(), [(who, Affiliation::Outcast)]);
    assert!(townhall.locked && none.is_empty());
    assert_eq!(snapshot.users.len(), 1);
    assert_eq!(snapshot.nicks.len(), usize::from(version >= 3));
    if version < 2 {
        // Nobody who configured these was asked about an archive.
        assert!(snapshot.rooms.iter().all(|(room, _)| !room.settings.archived()));
    }
    let connection = store.connection.as_mut().unwrap();
    let reasons = connection.all("SELECT reason FROM affiliations", []).await.unwrap();
    assert_eq!(reasons[0].get::<String>("reason").unwrap(), "noise");
    store.write(&[archived("standup", message("m1", 1))]).await.unwrap();
    store.close().await.unwrap();
    let mut store = Store::open(scratch.url()).await.unwrap();
    let expected: &[&str] = if version >= 2 { &["m0", "m1"] } else { &["m1"] };
    assert_eq!(messages(&mut store).await, expected);
}

#[tokio::test]
async fn brings_every_old_schema_up_to_date() {
    for version in 1..MIGRATIONS.len() {
        let name = format!("schema-{version}");
        let scratches = [Some(Scratch::sqlite(&name)), Scratch::postgres(&name)];
        for scratch in scratches.iter().flatten() {
            old(scratch, version).await;
            is_as_it_was(scratch, version).await;
        }
    }
}

/// A file that the first released program wrote.
#[tokio::test]
async fn reads_a_file_of_the_first_schema() {
    let scratch = Scratch::sqlite("first");
    let mut old = Place::parse(scratch.url()).unwrap().connect(Access::Write).await.unwrap();
    old.run(include_str!("schema-1.sql")).await.unwrap();
    old.close().await.unwrap();
    is_as_it_was(&scratch, 1).await;
}

async fn one_server_at_a_time_has_the_store(scratch: &Scratch) {
    let mut first = Store::open(scratch.url()).await.unwrap();
    let why = format!("{:#}", Store::open(scratch.url()).await.unwrap_err());
    assert!(why.contains("in use by another cusaxd"), "{why}");
    assert!(!why.contains(PASSWORD), "{why}");
    first.write(&[Row::Room(room("cave"))]).await.unwrap();
    drop(first);
    assert_eq!(Store::open(scratch.url()).await.unwrap().load().await.unwrap().rooms.len(), 1);
}

/// As when its connection, and with it its lock, was lost for long enough.
async fn who_was_replaced_writes_nothing_more(scratch: &Scratch) {
    let mut first = Store::open(scratch.url()).await.unwrap();
    first.write(&[Row::Room(room("cave"))]).await.unwrap();
    (first.connection, first._lock) = (None, None);
    let mut second = Store::open(scratch.url()).await.unwrap();
    second.write(&[Row::Room(room("attic"))]).await.unwrap();
    second.close().await.unwrap();
    for _ in 0..2 {
        let done = first.write(&[Row::NoRoom(room("attic").name)]).await;
        assert!(matches!(done, Err(NotWritten::Taken)), "{done:?}");
    }
    drop(first);
    assert_eq!(Store::open(scratch.url()).await.unwrap().load().await.unwrap().rooms.len(), 2);
}

/// A transaction whose end nobody heard of is not done again: this one could not be.
async fn what_was_done_unnoticed_is_not_done_twice(scratch: &Scratch) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    let rows = [
        Row::User(user("a@x", "sip:1@x")),
        Row::NoUser(BareJid::new("a@x").unwrap()),
        Row::User(user("b@x", "sip:1@x")),
    ];
    store.write(&rows).await.unwrap();
    (store.connection, store.writes) = (None, store.writes - 1);
    store.write(&rows).await.unwrap();
    store.write(&[Row::Room(room("cave"))]).await.unwrap();
    let snapshot = store.load().await.unwrap();
    assert_eq!((snapshot.rooms.len(), snapshot.users.len()), (1, 1));
}

#[tokio::test]
async fn no_text_names_the_password() {
    for url in [
        format!("postgres://cusaxd:{PASSWORD}@localhost:1/cusaxd"),
        format!("postgresql://cusaxd@localhost/cusaxd?password={PASSWORD}&host=/nowhere"),
        format!("postgres://cusaxd:{PASSWORD}@[::1/cusaxd"),
        format!("postgres://cusaxd:{PASSWORD}@localhost/cusaxd?port={PASSWORD}x"),
        format!("mysql://cusaxd:{PASSWORD}@localhost/cusaxd"),
    ] {
        let why = Store::open(&url).await.unwrap_err();
        let told =
            format!("{why:#} {why:?} {:?} {:?}", super::problem(&url), super::probe(&url).await);
        assert!(!told.contains(&format!(":{PASSWORD}@")), "{told}");
        assert!(!told.contains(&format!("password={PASSWORD}")), "{told}");
    }
    let place = Place::parse("postgres://me:p@db.example:5433/rooms").unwrap();
    assert_eq!(
        format!("{place} {place:?}"),
        "postgres://me@db.example:5433/rooms postgres://me@db.example:5433/rooms"
    );
}

async fn what_newcomers_are_told_outlasts_a_restart(scratch: &Scratch) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    let settings = |archive| Settings { history: 2, archive, ..room("cave").settings };
    let (cave, attic) = (
        StoredRoom { settings: settings(true), ..room("cave") },
        StoredRoom { settings: settings(false), ..room("attic") },
    );
    let subject = Said { kind: Kind::Subject, ..message("m4", 4) };
    let rows = [
        Row::Room(cave.clone()),
        Row::Room(attic),
        archived("cave", message("m1", 1)),
        archived("attic", message("m1", 1)),
        archived("cave", message("m2", 2)),
        archived("cave", message("m3", 3)),
        archived("cave", subject),
    ];
    store.write(&rows).await.unwrap();
    let expected = [(cave.name, vec![message("m2", 2), message("m3", 3)])];
    assert_eq!(store.load().await.unwrap().history, expected.into());
}

async fn archives_go_with_their_rooms_and_messages_with_time(scratch: &Scratch) {
    let mut store = Store::open(scratch.url()).await.unwrap();
    let many = i64::from(u16::try_from(MAX_SWEPT).unwrap()) + 1;
    let mut rows = vec![Row::Room(room("cave")), Row::Room(room("attic"))];
    rows.extend((0..many).map(|number| archived("attic", message(&format!("a{number}"), 9))));
    rows.extend((1..=4).map(|day| archived("cave", message(&format!("m{day}"), day))));
    store.write(&rows).await.unwrap();

    // A room of the same name is another room.
    let rows = [
        Row::NoRoom(room("attic").name),
        Row::Room(room("attic")),
        archived("attic", message("new", 9)),
    ];
    store.write(&rows).await.unwrap();
    assert_eq!(store.load().await.unwrap().history[&room("attic").name], [message("new", 9)]);
    store.write(&[Row::Sweep { before: None }]).await.unwrap();
    assert_eq!(messages(&mut store).await.len(), 6, "some at a time");
    let before = Some(message("", 3).at);
    store.write(&[Row::Sweep { before }]).await.unwrap();
    assert_eq!(messages(&mut store).await, ["m3", "m4", "new"]);
    let connection = store.connection.as_mut().unwrap();
    assert_eq!(connection.all("SELECT number FROM archives", []).await.unwrap().len(), 2);
}
