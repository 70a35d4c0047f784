//! What one subscriber knows of a conference: document after document, full and partial (RFC 4575
//! §4.6).

use super::{
    Conference, Document, Endpoint, MAX_ENDPOINTS, MAX_MEDIA, MAX_USERS, Media, State, User,
};

/// One subscription's knowledge. A new subscription starts with a new one, for versions count within
/// a subscription.
#[derive(Clone, Debug, Default)]
pub struct Subscriber {
    version: Option<u32>,
    conference: Option<Conference>,
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was used.
    Applied,
    /// It is not newer than what is known, and was dropped.
    Stale,
    /// One before it is missing, and it was dropped: refresh the subscription, which brings a full
    /// document.
    Refresh,
    /// The conference is no more: end the subscription.
    Ended,
    /// It is about another conference, and was dropped.
    Foreign,
    /// With it there would be more people than anyone is told of, and it was dropped: end the
    /// subscription.
    TooMany,
}

impl Subscriber {
    /// What is known; `None` before the first full document and after the end.
    pub fn conference(&self) -> Option<&Conference> {
        self.conference.as_ref()
    }

    /// The number of the last document that was used.
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// Takes in a document, in the order of the checks of RFC 4575 §4.6.
    pub fn handle_document(&mut self, document: Document) -> Outcome {
        if self.conference.as_ref().is_some_and(|had| had.entity != document.entity) {
            return Outcome::Foreign;
        }
        if self.version.is_some_and(|version| document.version <= version) {
            return Outcome::Stale;
        }
        let version = document.version;
        match document.state {
            State::Deleted => {
                self.version = Some(version);
                self.conference = None;
                Outcome::Ended
            }
            State::Full => {
                self.version = Some(version);
                let mut conference = Conference::from(document);
                conference.users.list = settled(conference.users.list, conference.users.state);
                conference.users.state = State::Full;
                self.conference = Some(conference);
                Outcome::Applied
            }
            State::Partial => {
                let Some(had) = &self.conference else { return Outcome::Refresh };
                if self.version.and_then(|version| version.checked_add(1)) != Some(version) {
                    return Outcome::Refresh;
                }
                let mut conference = had.clone();
                apply(&mut conference, document);
                if too_many(&conference) {
                    return Outcome::TooMany;
                }
                self.version = Some(version);
                self.conference = Some(conference);
                Outcome::Applied
            }
        }
    }
}

fn apply(conference: &mut Conference, document: Document) {
    if let Some(description) = document.description {
        conference.description = description;
    }
    if let Some(state) = document.conference_state {
        conference.conference_state = state;
    }
    let Some(users) = document.users else { return };
    match users.state {
        State::Full => conference.users.list = settled(users.list, State::Full),
        State::Deleted => conference.users.list.clear(),
        State::Partial => {
            for user in users.list {
                merge(&mut conference.users.list, user, |had, new| {
                    replace(&mut had.display_text, new.display_text);
                    replace_list(&mut had.associated_aors, new.associated_aors);
                    replace_list(&mut had.roles, new.roles);
                    for endpoint in new.endpoints {
                        merge(&mut had.endpoints, endpoint, merge_endpoint);
                    }
                });
            }
        }
    }
}

fn merge_endpoint(had: &mut Endpoint, new: Endpoint) {
    replace(&mut had.display_text, new.display_text);
    replace(&mut had.referred, new.referred);
    replace(&mut had.status, new.status);
    replace(&mut had.joining_method, new.joining_method);
    replace(&mut had.joining_info, new.joining_info);
    replace(&mut had.disconnection_method, new.disconnection_method);
    replace(&mut had.disconnection_info, new.disconnection_info);
    for media in new.media {
        merge(&mut had.media, media, |had, new| *had = new);
    }
}

/// Applies one keyed element to those of its kind: full replaces, deleted removes, partial changes,
/// and what is new is added.
fn merge<T: Keyed>(list: &mut Vec<T>, new: T, change: impl FnOnce(&mut T, T)) {
    let at = list.iter().position(|had| had.key() == new.key());
    match (new.state(), at) {
        (State::Deleted, Some(at)) => {
            list.remove(at);
        }
        (State::Deleted, None) => {}
        (State::Full, Some(at)) => list[at] = new.settled(),
        (State::Partial, Some(at)) => change(&mut list[at], new),
        (State::Full | State::Partial, None) => list.push(new.settled()),
    }
}

/// A list as it is kept: whole, without what the document calls deleted.
fn settled<T: Keyed>(list: Vec<T>, state: State) -> Vec<T> {
    let list = if state == State::Deleted { vec![] } else { list };
    list.into_iter().filter(|one| one.state() != State::Deleted).map(T::settled).collect()
}

/// A part that is not written has not changed.
fn replace<T>(had: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *had = new;
    }
}

/// The same of a list, which the schema does not let be empty where it is written.
fn replace_list<T>(had: &mut Vec<T>, new: Vec<T>) {
    if !new.is_empty() {
        *had = new;
    }
}

fn too_many(conference: &Conference) -> bool {
    let users = &conference.users.list;
    users.len() > MAX_USERS
        || users.iter().any(|user| {
            user.endpoints.len() > MAX_ENDPOINTS
                || user.endpoints.iter().any(|endpoint| endpoint.media.len() > MAX_MEDIA)
        })
}

/// An element that is found by its key (RFC 4575 §4.5).
trait Keyed {
    fn key(&self) -> &str;
    fn state(&self) -> State;
    /// The element as it is kept.
    fn settled(self) -> Self;
}

impl Keyed for User {
    fn key(&self) -> &str {
        &self.entity
    }

    fn state(&self) -> State {
        self.state
    }

    fn settled(mut self) -> Self {
        self.state = State::Full;
        self.endpoints = settled(self.endpoints, State::Full);
        self
    }
}

impl Keyed for Endpoint {
    fn key(&self) -> &str {
        &self.entity
    }

    fn state(&self) -> State {
        self.state
    }

    fn settled(mut self) -> Self {
        self.state = State::Full;
        self
    }
}

impl Keyed for Media {
    fn key(&self) -> &str {
        &self.id
    }

    /// A medium is replaced as a whole (RFC 4575 §4.4).
    fn state(&self) -> State {
        State::Full
    }

    fn settled(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conference::NAMESPACE;

    /// A document in short: attributes of the root, and content.
    fn document(version: u32, state: &str, content: &str) -> Document {
        Document::from_xml(&format!(
            "<conference-info xmlns='{NAMESPACE}' entity='sip:c@x' version='{version}' \
             state='{state}'>{content}</conference-info>"
        ))
        .unwrap()
    }

    /// The roster in short: each user's entity, and how each of their endpoints stands.
    fn roster(subscriber: &Subscriber) -> String {
        let users = subscriber.conference().map(|conference| &conference.users.list);
        let users = users.into_iter().flatten().map(|user| {
            let endpoints: Vec<_> = user
                .endpoints
                .iter()
                .map(|endpoint| {
                    let status = endpoint.status.map_or("", |status| status.as_str());
                    let media = endpoint.media.iter().map(|media| media.status.as_str());
                    format!("{}:{status}:{}", endpoint.entity, media.collect::<Vec<_>>().join("+"))
                })
                .collect();
            format!("{}[{}]", user.entity, endpoints.join(" "))
        });
        users.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn applies_as_rfc_4575_4_6_says() {
        let mut subscriber = Subscriber::default();
        let mut check = |version, state, content: &str, outcome, expected: &str| {
            let did = subscriber.handle_document(document(version, state, content));
            assert_eq!((did, roster(&subscriber)), (outcome, expected.to_owned()), "{content}");
        };
        let ab = "<users><user entity='a'><display-text>A</display-text>\
             <endpoint entity='1'><status>connected</status>\
             <media id='1'><status>sendrecv</status></media></endpoint></user>\
             <user entity='b'/></users>";
        // Nothing can be applied to nothing.
        check(7, "partial", "<users state='partial'/>", Outcome::Refresh, "");
        check(4, "full", ab, Outcome::Applied, "a[1:connected:sendrecv] b[]");
        check(4, "full", "", Outcome::Stale, "a[1:connected:sendrecv] b[]");
        check(3, "partial", "", Outcome::Stale, "a[1:connected:sendrecv] b[]");
        // A partial element changes what it says, and leaves the rest.
        let muted = "<users state='partial'><user entity='a' state='partial'>\
             <endpoint entity='1' state='partial'><status>muted-via-focus</status>\
             <media id='2'><status>recvonly</status></media></endpoint></user></users>";
        let expected = "a[1:muted-via-focus:sendrecv+recvonly] b[]";
        check(5, "partial", muted, Outcome::Applied, expected);
        // No users: no change; those unknown that are gone: nothing.
        check(6, "partial", "<conference-state/>", Outcome::Applied, expected);
        let unknown = "<users state='partial'><user entity='z' state='deleted'/></users>";
        check(7, "partial", unknown, Outcome::Applied, expected);
        // 8 is lost.
        check(9, "partial", unknown, Outcome::Refresh, expected);
        check(9, "full", ab, Outcome::Applied, "a[1:connected:sendrecv] b[]");
        let several = "<users state='partial'><user entity='b' state='deleted'/>\
             <user entity='a' state='partial'><endpoint entity='1' state='deleted'/>\
             <endpoint entity='2' state='partial'><status>on-hold</status></endpoint></user>\
             <user entity='c' state='partial'><display-text>C</display-text></user></users>";
        check(10, "partial", several, Outcome::Applied, "a[2:on-hold:] c[]");
        // Left out, the state of users is full, also in a partial document (§4.4).
        check(11, "partial", "<users><user entity='d'/></users>", Outcome::Applied, "d[]");
        check(12, "partial", "<users state='deleted'/>", Outcome::Applied, "");
        check(
            13,
            "full",
            "<users><user entity='e' state='deleted'/></users>",
            Outcome::Applied,
            "",
        );
        check(20, "full", ab, Outcome::Applied, "a[1:connected:sendrecv] b[]");
        check(21, "deleted", ab, Outcome::Ended, "");
        check(22, "partial", "", Outcome::Refresh, "");
    }

    #[test]
    fn another_conference_and_too_many_people_change_nothing() {
        let mut subscriber = Subscriber::default();
        let one = "<users><user entity='a'/></users>";
        assert_eq!(subscriber.handle_document(document(1, "full", one)), Outcome::Applied);
        let mut foreign = document(2, "full", "");
        foreign.entity = "sip:other@x".to_owned();
        assert_eq!(subscriber.handle_document(foreign), Outcome::Foreign);
        let many: String = (0..MAX_USERS).map(|i| format!("<user entity='{i}'/>")).collect();
        let crowd = document(2, "partial", &format!("<users state='partial'>{many}</users>"));
        assert_eq!(subscriber.handle_document(crowd), Outcome::TooMany);
        let endpoint = |from: usize| -> String {
            let all = (from..from + MAX_ENDPOINTS).map(|i| format!("<endpoint entity='{i}'/>"));
            let all: String = all.collect();
            format!("<users state='partial'><user entity='b' state='partial'>{all}</user></users>")
        };
        assert_eq!(
            subscriber.handle_document(document(2, "partial", &endpoint(0))),
            Outcome::Applied
        );
        let known = roster(&subscriber);
        assert_eq!(
            subscriber.handle_document(document(3, "partial", &endpoint(1))),
            Outcome::TooMany
        );
        assert_eq!((roster(&subscriber), subscriber.version()), (known, Some(2)));
    }
}
