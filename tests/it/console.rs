//! The console of a running server, as a browser's requests see it: who is let in, what is believed,
//! what may be done, and what follows by itself.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::shell::{Answer, PATIENCE, Server, TOKEN, until};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
/// Who may only look has this token.
const LOOK: &str = "only look";
const PAGES: [&str; 8] = [
    "/console",
    "/console/rooms",
    "/console/rooms/cave",
    "/console/users",
    "/console/events",
    "/console/search?search=a",
    "/console/do/setRoom?room=cave",
    "/console/login",
];

/// A browser that somebody logged in with.
struct Browser<'a> {
    server: &'a Server,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn log_in(server: &'a Server, token: &str) -> Self {
        let answer = log_in(server, token, "/console/rooms");
        assert_eq!(answer.status, 303, "{answer:?}");
        assert!(answer.head.contains("location: /console/rooms\r\n"), "{answer:?}");
        let cookie =
            answer.head.split("set-cookie: ").nth(1).unwrap().split("\r\n").next().unwrap();
        for part in ["; path=/console;", "; httponly", "; samesite=strict", "; max-age=86400"] {
            assert!(cookie.contains(part), "{part}: {cookie}");
        }
        let cookie = format!("Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap());
        Self { server, cookie }
    }

    fn get(&self, path: &str) -> Answer {
        self.server.ask_with("GET", path, &self.cookie, b"")
    }

    /// The word that a page gives its forms.
    fn word(&self) -> String {
        let page = self.get("/console").body;
        let after = page.split("name=\"word\" value=\"").nth(1).unwrap();
        after.split('"').next().unwrap().to_owned()
    }

    fn send(&self, operation: &str, headers: &str, form: &str) -> Answer {
        let headers = format!("{}{FORM}{headers}", self.cookie);
        let path = format!("/console/do/{operation}");
        self.server.ask_with("POST", &path, &headers, form.as_bytes())
    }
}

fn log_in(server: &Server, token: &str, next: &str) -> Answer {
    let form = format!("token={}&next={next}", token.replace(' ', "+"));
    server.ask_with("POST", "/console/login", FORM, form.as_bytes())
}

/// A server with a room called `cave`, and a second token.
fn cave() -> Server {
    let server = Server::start();
    set_tokens(&server, TOKEN, LOOK);
    let look = format!("Authorization: Bearer {LOOK}\r\n");
    until("the second token is known", || {
        server.ask_with("GET", "/api/v1/rooms", &look, b"").status == 200
    });
    let room = json!({ "name": "<b>Cave</b>", "description": "\"><script>alert(1)</script>" });
    assert_eq!(server.ask("PUT", "/api/v1/rooms/cave", &room.to_string()).status, 200);
    let user = json!({ "aor": "sip:ann@conf.example.org", "name": "<i>Ann</i>" });
    assert_eq!(server.ask("PUT", "/api/v1/users/ann@example.org", &user.to_string()).status, 200);
    server
}

fn set_tokens(server: &Server, write: &str, read: &str) {
    let text = std::fs::read_to_string(&server.config).unwrap();
    let (before, after) = text.split_once("token = ").unwrap();
    let rest = after.split_once('\n').unwrap().1;
    let rest = rest.strip_prefix("read_token").map_or(rest, |it| it.split_once('\n').unwrap().1);
    let text = format!("{before}token = {write:?}\nread_token = {read:?}\n{rest}");
    std::fs::write(&server.config, text).unwrap();
    server.signal(Signal::SIGHUP);
}

fn locked(server: &Server) -> bool {
    server.get("/api/v1/rooms/cave").json()["locked"] == true
}

#[test]
fn nobody_sees_anything_without_a_token() {
    let server = cave();
    for path in PAGES.into_iter().filter(|path| *path != "/console/login") {
        let answer = server.ask_with("GET", path, "", b"");
        assert_eq!(answer.status, 401, "{path}");
        // No browser asks by itself, and so none sends a token along without being told.
        assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
        assert!(answer.body.contains("name=\"token\""), "{answer:?}");
        assert!(!answer.body.contains("Cave") && !answer.body.contains("ann@"), "{answer:?}");
    }
    for wrong in ["", "open", "open sesam", "open sesame!"] {
        let answer = log_in(&server, wrong, "/console");
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(!answer.head.contains("set-cookie"), "{answer:?}");
        assert!(answer.body.contains("This token is none of ours."), "{answer:?}");
    }
    // Nobody is sent elsewhere by logging in.
    for next in ["https://example.org/", "//example.org", "/console.example.org", "/api/v1/rooms"] {
        let answer = log_in(&server, TOKEN, next);
        assert!(answer.head.contains("location: /console\r\n"), "{next}: {answer:?}");
    }
    // Guessing is slow, for who guesses.
    let tries: Vec<u16> = (0..30).map(|_| log_in(&server, "guess", "/console").status).collect();
    assert_eq!(tries[29], 429, "{tries:?}");
    let counted = server.ask_with("GET", "/metrics", "", b"").body;
    assert!(counted.contains("cusax_auth_failures_total{interface=\"http\"}"), "{counted}");
}

#[test]
fn a_session_ends_when_it_is_left_and_when_its_token_ends() {
    let server = cave();
    let browser = Browser::log_in(&server, TOKEN);
    assert_eq!(browser.get("/console").status, 200);
    let other = Browser::log_in(&server, TOKEN);
    assert_ne!(browser.word(), other.word());
    let leave = |browser: &Browser<'_>, word: &str| {
        let headers = format!("{}{FORM}", browser.cookie);
        server.ask_with("POST", "/console/logout", &headers, format!("word={word}").as_bytes())
    };
    assert_eq!(leave(&browser, &other.word()).status, 403);
    assert_eq!(browser.get("/console").status, 200);
    let left = leave(&browser, &browser.word());
    assert_eq!(left.status, 303);
    assert!(left.head.contains("cusaxd_console=; path=/console; max-age=0"), "{left:?}");
    assert_eq!(browser.get("/console").status, 401);
    assert_eq!(other.get("/console").status, 200);

    set_tokens(&server, "another", LOOK);
    until("the session ends with its token", || other.get("/console").status == 401);
}

#[test]
fn pages_run_nothing_that_is_not_ours_and_leave_nothing_behind() {
    let server = cave();
    let browser = Browser::log_in(&server, TOKEN);
    let policy = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
                  img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
                  frame-ancestors 'none'";
    for path in PAGES.into_iter().chain(["/console/rooms/nowhere", "/console/do/none"]) {
        let answer = browser.get(path);
        for header in [policy, "cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(answer.head.contains(header), "{path} lacks {header}: {answer:?}");
        }
        let page = answer.body;
        for forbidden in
            ["<b>Cave", "<script>", "<i>Ann", " style=", "<style", "onclick", "javascript:"]
        {
            assert!(!page.contains(forbidden), "{path} has {forbidden}: {page}");
        }
        let scripts = page.matches("<script").count();
        assert_eq!(page.matches("<script src=\"/console/assets/").count(), scripts, "{path}");
    }
    for asset in ["console.css", "console.js", "htmx-2.0.11.min.js", "icon.svg"] {
        let answer = server.ask_with("GET", &format!("/console/assets/{asset}"), "", b"");
        assert_eq!(answer.status, 200, "{asset}");
        assert!(answer.head.contains("cache-control: public, max-age=31536000, immutable"));
    }
    let shown = browser.get("/console/rooms/cave").body;
    assert!(shown.contains("&lt;b&gt;Cave&lt;/b&gt;"), "{shown}");
    assert_eq!(browser.get("/console/rooms/nowhere").status, 404);
    // What the server knows of files is no page.
    assert_eq!(browser.get("/console/assets/..%2f..%2fmod.rs").status, 404);
}

#[test]
fn only_what_was_meant_is_done() {
    let server = cave();
    let browser = Browser::log_in(&server, TOKEN);
    let (word, other) = (browser.word(), Browser::log_in(&server, TOKEN).word());
    let right = format!("word={word}&room=cave");
    for (headers, form) in [
        ("", "room=cave".to_owned()),
        ("", "word=&room=cave".to_owned()),
        ("", format!("word={other}&room=cave")),
        ("Sec-Fetch-Site: cross-site\r\n", right.clone()),
        ("Sec-Fetch-Site: same-site\r\n", right.clone()),
        ("Origin: http://example.org\r\n", right.clone()),
        ("Origin: null\r\n", right.clone()),
    ] {
        let answer = browser.send("lockRoom", headers, &form);
        assert_eq!(answer.status, 403, "{headers}{form}");
        assert!(answer.body.contains("did not come from a page of this console"), "{answer:?}");
    }
    assert!(!locked(&server), "nothing was done");
    // A page of another site that sends the form has no cookie; and to ask is not to do.
    let forged = server.ask_with("POST", "/console/do/lockRoom", FORM, right.as_bytes());
    assert_eq!(forged.status, 401);
    assert_eq!(browser.get(&format!("/console/do/lockRoom?{right}")).status, 200);
    assert!(!locked(&server));
    let other_site = "Origin: http://example.org\r\n";
    let headers = format!("{FORM}{other_site}");
    let answer =
        server.ask_with("POST", "/console/login", &headers, b"token=open+sesame&next=/console");
    assert_eq!(answer.status, 403, "nobody is logged in by another page");

    let done = browser.send("lockRoom", "Sec-Fetch-Site: same-origin\r\n", &right);
    assert_eq!(done.status, 303);
    assert!(done.head.contains("location: /console/rooms/cave"), "{done:?}");
    assert!(locked(&server));
    let origin = format!("Origin: http://{}\r\nHX-Request: true\r\n", server.http);
    let done = browser.send("unlockRoom", &origin, &right);
    assert_eq!(done.status, 200);
    assert!(done.head.contains("hx-trigger: done"), "{done:?}");
    assert_eq!(done.body, "<p class=\"done\">Unlock cave: done.</p>");
    assert!(!locked(&server));
}

#[test]
fn what_is_refused_is_said_in_words() {
    let server = cave();
    let browser = Browser::log_in(&server, TOKEN);
    let word = browser.word();
    let send = |operation: &str, form: &str| {
        browser.send(operation, "HX-Request: true\r\n", &format!("word={word}&{form}"))
    };
    for (operation, form, status, words) in [
        ("mute", "room=cave&person=p9", 404, "Nobody by that number is in the room."),
        ("mute", "room=cave&person=x", 400, "Person: is no number such as p3."),
        ("mute", "room=cave", 400, "Person: is missing."),
        ("lockRoom", "room=nowhere", 404, "There is no such room."),
        ("dial", "room=cave&uri=nonsense", 400, "Uri: "),
        ("putUser", "jid=ben@example.org", 400, "Aor: is missing."),
        ("announce", "announcement=", 400, "Missing field"),
        ("listRooms", "", 404, "There is nothing like that to do."),
    ] {
        let answer = send(operation, form);
        assert_eq!(answer.status, status, "{operation} {form}: {answer:?}");
        assert!(answer.body.contains(words), "{operation} {form}: {answer:?}");
    }
    // A form as a page shows it, sent as it came but for the name: the rest stays.
    let before = server.get("/api/v1/rooms/cave").json()["settings"].clone();
    let form = "room=cave&settings.name=New&settings.description=x&settings.history=20&settings.slow_mode_s=0\
                &settings.persistent=on&settings.public=on&settings.archive=on&settings.max_users=7\
                &settings.presence_broadcast=moderator&settings.member_list=moderator";
    assert_eq!(send("setRoom", form).status, 200);
    let after = server.get("/api/v1/rooms/cave").json()["settings"].clone();
    for (key, value) in [
        ("name", json!("New")),
        ("max_users", json!(7)),
        ("presence_broadcast", json!(["moderator"])),
        ("whois", before["whois"].clone()),
    ] {
        assert_eq!(after[key], value, "{key}");
    }
    let link = send("linkUser", "jid=ann@example.org");
    assert!(link.body.contains("<code>/provision/"), "{link:?}");
    assert_eq!(send("destroyRoom", "room=cave").status, 200);
    assert_eq!(server.get("/api/v1/rooms/cave").status, 404);
}

#[test]
fn who_may_only_look_can_do_nothing() {
    let server = cave();
    let browser = Browser::log_in(&server, LOOK);
    for path in PAGES.into_iter().filter(|path| !path.contains("/do/") && !path.contains("login")) {
        let answer = browser.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains("read only"), "{path}");
        assert!(!answer.body.contains("/console/do/"), "{path}: {}", answer.body);
    }
    let word = browser.word();
    for operation in ["lockRoom", "destroyRoom", "announce"] {
        let form = format!("word={word}&room=cave&announcement=x");
        let refused = browser.send(operation, "HX-Request: true\r\n", &form);
        assert_eq!(refused.status, 403);
        assert!(refused.body.contains("This token may only read."), "{refused:?}");
    }
    assert_eq!(browser.get("/console/do/lockRoom?room=cave").status, 403);
    assert!(!locked(&server));
}

/// Who sits at the machine needs no token where there is none; a page of another site is not them.
#[test]
fn without_a_token_this_machine_is_let_in() {
    let server = Server::start_with(None);
    assert_eq!(server.ask("PUT", "/api/v1/rooms/cave", "").status, 200);
    let page = server.ask_with("GET", "/console/rooms/cave", "", b"");
    assert_eq!(page.status, 200);
    let word = page.body.split("name=\"word\" value=\"").nth(1).unwrap();
    let word = word.split('"').next().unwrap();
    for host in ["rooms.example.org", "127.0.0.1.example.org"] {
        let answer = server.ask_with("GET", "/console", &format!("Host: {host}\r\n"), b"");
        assert_eq!(answer.status, 403, "{host}");
        assert!(!answer.body.contains("cave") && !answer.body.contains("<form"), "{answer:?}");
    }
    let send = |headers: &str, word: &str| {
        let (headers, form) = (format!("{FORM}{headers}"), format!("word={word}&room=cave"));
        server.ask_with("POST", "/console/do/lockRoom", &headers, form.as_bytes()).status
    };
    assert_eq!(send("", "guess"), 403);
    assert_eq!(send("Origin: http://example.org\r\n", word), 403);
    assert_eq!(send("Sec-Fetch-Site: cross-site\r\n", word), 403);
    assert!(!locked(&server));
    assert_eq!(send(&format!("Origin: http://{}\r\n", server.http), word), 303);
    assert!(locked(&server));
}

/// A page that is watched.
struct Stream(TcpStream, String);

impl Stream {
    fn open(browser: &Browser<'_>, path: &str) -> Self {
        let mut stream = TcpStream::connect(browser.server.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let Browser { server, cookie } = browser;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{cookie}\r\n",
            server.http
        )
        .unwrap();
        Self(stream, String::new())
    }

    /// Reads on until something has come.
    fn until(&mut self, wanted: &str) -> String {
        let mut bytes = [0; 65_536];
        while !self.1.contains(wanted) {
            let read = self.0.read(&mut bytes).unwrap_or_else(|why| panic!("{wanted}: {why}"));
            assert!(read > 0, "{wanted} did not come: {}", self.1);
            self.1.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        std::mem::take(&mut self.1)
    }

    /// Whether the server has ended it.
    fn has_ended(&mut self) -> bool {
        let mut bytes = [0; 65_536];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}

#[test]
fn what_happens_is_shown_to_who_watches_and_they_are_few() {
    let server = cave();
    let browser = Browser::log_in(&server, TOKEN);
    let mut room = Stream::open(&browser, "/console/rooms/cave/live");
    let mut events = Stream::open(&browser, "/console/events/live");
    let first = room.until("event: room");
    assert!(first.contains("200 OK") && first.contains("text/event-stream"), "{first}");
    events.until("text/event-stream");
    assert_eq!(server.ask("POST", "/api/v1/rooms/cave/lock", "").status, 200);
    room.until("The room is locked.");
    assert!(events.until("locked").contains("event: events"));
    // Many changes are one picture.
    for number in 0..20 {
        let body = json!({ "name": format!("Room {number}") }).to_string();
        assert_eq!(server.ask("PUT", "/api/v1/rooms/cave", &body).status, 200);
    }
    let drawn = room.until("Room 19").matches("event: room\n").count();
    assert!(drawn < 20, "{drawn} pictures");
    assert_eq!(server.ask("DELETE", "/api/v1/rooms/cave", "").status, 204);
    room.until("This room is no more.");

    let mut others: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = Stream::open(&browser, "/console/events/live");
            let answer = stream.until("\r\n\r\n");
            (stream, answer)
        })
        .collect();
    let places = others.iter().filter(|(_, answer)| answer.contains("200 OK")).count();
    assert_eq!(places, 30, "32 at a time");
    assert!(others.last().unwrap().1.contains("503"), "{:?}", others.last().unwrap().1);
    // Who leaves makes room; who is logged in no more is shown nothing more.
    others.clear();
    until("there is room again", || {
        Stream::open(&browser, "/console/events/live").until("\r\n\r\n").contains("200 OK")
    });
    set_tokens(&server, "another", LOOK);
    assert!(events.has_ended());
}
