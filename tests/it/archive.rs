//! An archive in memory: rows make it, queries read it, as simply as can be; and the way there and back
//! through the whole server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cusaxd::archive::{
    Answer, End, Filter, Found, From, Loaded, MAX_COUNT, Page, Query, What, With,
};
use cusaxd::bridge::{Bridge, Input, Outbox};
use cusaxd::clock::Now;
use cusaxd::config::Config;
use cusaxd::id::RoomName;
use cusaxd::journal::{Row, Snapshot};
use cusaxd::metrics::Metrics;
use cusaxd::room::history::{Kind, Said};
use serde_json::json;

/// A server as it starts, with messages that are kept for two days.
fn bridge(now: Now) -> Bridge {
    let config: Config = serde_json::from_value(json!({
        "xmpp": { "domain": "rooms.example.org", "secret": "x", "archive_days": 2 },
        "sip": { "domain": "conf.example.org" },
    }))
    .unwrap();
    Bridge::new(now, &config, "x", [7; 32], Snapshot::default(), Metrics::new())
}

#[test]
fn a_question_goes_after_what_was_said_and_its_answer_comes_back() {
    let now = Now::read();
    let (mut bridge, mut archive) = (bridge(now), Archive::default());
    let mut ask = |xml: &str| {
        let mut out = Outbox::default();
        let xml = xml.replacen(' ', " xmlns='jabber:client' from='juliet@example.org/pc' ", 1);
        bridge.handle(now, Input::Stanza(xml.parse().unwrap()), &mut out);
        out.store.drain(..).for_each(|row| archive.write(row));
        for query in std::mem::take(&mut out.queries) {
            bridge.handle(now, Input::Loaded(archive.answer(&query)), &mut out);
        }
        out.stanzas.each().map(|it| String::from(&it)).collect::<Vec<_>>()
    };
    let to = "garden@rooms.example.org";
    ask(&format!("<presence to='{to}/J'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    ask(&format!(
        "<iq type='set' id='o1' to='{to}'><query xmlns='http://jabber.org/protocol/muc#owner'>\
         <x xmlns='jabber:x:data' type='submit'><field var='muc#roomconfig_persistentroom'>\
         <value>1</value></field></x></query></iq>"
    ));
    ask(&format!("<message to='{to}' type='groupchat'><body>art thou</body></message>"));
    let query = format!("<iq type='set' id='q1' to='{to}'><query xmlns='urn:xmpp:mam:2'/></iq>");
    let answer = ask(&query);
    assert_eq!(answer.len(), 2, "{answer:?}");
    assert!(answer[0].contains("<body>art thou</body>"), "{answer:?}");
    assert!(answer[1].contains("complete='true'"), "{answer:?}");

    // Whom the answers do not keep waiting is held by how often they may ask.
    let answers: Vec<_> = (0..200).map(|_| ask(&query).pop().unwrap()).collect();
    let refused = answers.iter().filter(|answer| answer.contains("policy-violation")).count();
    assert_eq!(refused, 1);
}

#[test]
fn so_many_questions_wait_and_no_more() {
    let now = Now::read();
    let mut bridge = bridge(now);
    let mut ask = |user: usize, xml: &str| {
        let mut out = Outbox::default();
        let from = format!(" xmlns='jabber:client' from='user{user}@example.org/pc' ");
        let xml = xml.replacen(' ', &from, 1);
        bridge.handle(now, Input::Stanza(xml.parse().unwrap()), &mut out);
        (out.queries, out.stanzas.each().last().map(|it| String::from(&it)))
    };
    let to = "garden@rooms.example.org";
    for user in 0..70 {
        let nick = format!("{to}/{user}");
        ask(
            user,
            &format!(
                "<presence to='{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            ),
        );
        if user == 0 {
            ask(
                user,
                &format!(
                    "<iq type='set' id='o1' to='{to}'>\
                     <query xmlns='http://jabber.org/protocol/muc#owner'>\
                     <x xmlns='jabber:x:data' type='submit'>\
                     <field var='muc#roomconfig_persistentroom'><value>1</value></field>\
                     </x></query></iq>"
                ),
            );
        }
    }
    let query = format!("<iq type='set' id='q1' to='{to}'><query xmlns='urn:xmpp:mam:2'/></iq>");
    let mut taken = 0;
    for user in 0..70 {
        for number in 0..65 {
            let (queries, answer) = ask(user, &query);
            let fits = number < 64 && taken < 4_096;
            assert_eq!((queries.len(), answer.is_none()), (usize::from(fits), fits));
            taken += queries.len();
            if let Some(answer) = answer {
                assert!(answer.contains("resource-constraint"), "{answer}");
            }
        }
    }
    assert_eq!(taken, 4_096);
    // When their time is over all of them are answered, and there is room again.
    let (later, mut out) = (now + Duration::from_secs(10), Outbox::default());
    bridge.handle_timeout(later, &mut out);
    let refused = out.stanzas.each().filter(|it| String::from(it).contains("cannot be read"));
    assert_eq!(refused.count(), 4_096);
    let xml = query.replacen(' ', " xmlns='jabber:client' from='user0@example.org/pc' ", 1);
    bridge.handle(later, Input::Stanza(xml.parse().unwrap()), &mut out);
    assert_eq!(out.queries.len(), 1);
}

#[test]
fn archives_are_swept_from_the_start_and_every_five_seconds() {
    let now = Now::read();
    let mut bridge = bridge(now);
    let mut swept = |seconds: u64| {
        let now = now + Duration::from_secs(seconds);
        let mut out = Outbox::default();
        bridge.handle_timeout(now, &mut out);
        let age = |before: SystemTime| now.utc.duration_since(before).unwrap().as_secs();
        let rows = out.store.iter().map(|row| {
            let Row::Sweep { before } = row else { panic!("{row:?}") };
            before.map(age)
        });
        rows.collect::<Vec<_>>()
    };
    let two_days = vec![Some(2 * 24 * 60 * 60)];
    assert_eq!(swept(0), two_days);
    assert_eq!(swept(4), []);
    assert_eq!(swept(5), two_days);
    assert_eq!(swept(6), []);
}

/// The messages of each room, oldest first.
#[derive(Debug, Default)]
pub struct Archive(BTreeMap<RoomName, Vec<Said>>);

impl Archive {
    pub fn write(&mut self, row: Row) {
        match row {
            Row::Archived { room, said } => self.0.entry(room).or_default().push(said),
            Row::Buried { room, id, tombstone } => {
                let said =
                    self.0.entry(room).or_default().iter_mut().find(|said| *id == *own(said));
                if let Some(said) = said {
                    said.payload.stanza = Arc::clone(&tombstone);
                    said.kind = Kind::Tombstone;
                }
            }
            Row::NoRoom(room) => drop(self.0.remove(&room)),
            Row::Sweep { .. }
            | Row::Room(_)
            | Row::Affiliation { .. }
            | Row::User(_)
            | Row::NoUser(_)
            | Row::Nick { .. }
            | Row::Request { .. }
            | Row::Avatar { .. }
            | Row::Hats { .. } => {}
        }
    }

    pub fn answer(&self, query: &Query) -> Loaded {
        let said = self.0.get(&query.room).map_or(&[][..], Vec::as_slice);
        let answer = match &query.what {
            What::Page(filter, page) => find(said, filter, page).unwrap_or(Answer::NoSuchMessage),
            What::Ends => {
                let end = |said: &Said| End { id: own(said).to_owned(), at: said.at };
                Answer::Ends(said.first().map(end).zip(said.last().map(end)))
            }
            What::Message(id) => match at(said, id) {
                Some(number) => Answer::Message(Box::new(said[number].clone())),
                None => Answer::NoSuchMessage,
            },
        };
        Loaded { id: query.id, answer }
    }
}

fn own(said: &Said) -> &str {
    said.payload.stanza_id.as_deref().unwrap()
}

fn at(said: &[Said], id: &str) -> Option<usize> {
    said.iter().position(|said| own(said) == id)
}

fn find(said: &[Said], filter: &Filter, page: &Page) -> Option<Answer> {
    let (mut first, mut end) = (0, said.len());
    if let Some(id) = &filter.after_id {
        first = at(said, id)? + 1;
    }
    if let Some(id) = &filter.before_id {
        end = at(said, id)?;
    }
    if filter.ids.iter().any(|id| at(said, id).is_none()) {
        return None;
    }
    let admits = |said: &Said| {
        let author = said.author.as_ref();
        filter.start.is_none_or(|start| said.at >= start)
            && filter.end.is_none_or(|end| said.at <= end)
            && (filter.ids.is_empty() || filter.ids.iter().any(|id| id == own(said)))
            && match &filter.with {
                None => true,
                Some(With::Nick(nick)) => author.is_some_and(|it| it.nick.as_str() == nick),
                Some(With::Jid(jid)) => author.is_some_and(|it| it.jid.as_ref() == Some(jid)),
            }
    };
    let chosen = |first: usize, end: usize| -> Vec<Said> {
        let range = said.iter().enumerate().filter(|(number, _)| (first..end).contains(number));
        range.map(|(_, said)| said).filter(|said| admits(said)).cloned().collect()
    };
    let count = Some(chosen(first, end).len()).filter(|count| *count <= MAX_COUNT);
    match &page.from {
        From::First | From::Last => {}
        From::After(id) => first = first.max(at(said, id)? + 1),
        From::Before(id) => end = end.min(at(said, id)?),
    }
    let mut messages = chosen(first, end);
    let complete = messages.len() <= page.most;
    match &page.from {
        From::First | From::After(_) => messages.truncate(page.most),
        From::Last | From::Before(_) => {
            drop(messages.drain(..messages.len().saturating_sub(page.most)))
        }
    }
    Some(Answer::Page(Found { messages, complete, count }))
}
