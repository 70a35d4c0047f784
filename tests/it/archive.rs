//! An archive in memory: rows make it, queries read it, as simply as can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use cusaxd::archive::{
    Answer, End, Filter, Found, From, Loaded, MAX_COUNT, Page, Query, What, With,
};
use cusaxd::id::RoomName;
use cusaxd::journal::Row;
use cusaxd::room::history::{Kind, Said};

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
            | Row::NoUser(_) => {}
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
