//! The whole server as one value: an [`Input`] goes in, an [`Outbox`] fills, nothing else happens.
//!
//! What a face reads as a command goes to its room; who asked is answered; what became true is shown
//! by every face to its own. No logic of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cusax_sip::flow::{Flow, Transmit};
use cusax_sip::message::Message;
use cusax_sip::parse::ParseError;
use minidom::Element;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::admin::audit::{Entry, Via};
use crate::admin::{self, Admin, Announcement, Question, Step, schema};
use crate::archive::{Loaded, Query};
use crate::clock::{Now, stamp};
use crate::config::{Config, CreateRooms};
use crate::dialplan::{DialPlan, Hop, Lookup};
use crate::directory::Directory;
use crate::drain::{self, Drain};
use crate::focus::{self, Focus, FocusConfig, Limited, LogInRefused};
use crate::id::{LegId, RoomName};
use crate::journal::{self, Row, Snapshot};
use crate::metrics::Metrics;
use crate::mixer::floor::Floor;
use crate::mixer::plan::{Order, Report};
use crate::muc::{self, Muc, MucConfig};
use crate::provision::{self, LINK_LIFETIME, Links, Proof, Terms};
use crate::rate::Rate;
use crate::room::person::{Level, Who};
use crate::room::{By, Command, Creation, Fact, Intake, Policy, Refusal, Rooms};
use crate::stanzas::Stanzas;

/// Everything that can happen to the server.
#[derive(Debug)]
pub enum Input {
    /// The XMPP server handed us a stanza.
    Stanza(Element),
    /// The link to the XMPP server is up, or down.
    Link(bool),
    /// A message arrived over SIP, or something that should have been one.
    Sip {
        /// On which flow.
        flow: Flow,
        /// The message, or how far it could be read.
        message: Result<Message, ParseError>,
    },
    /// A connection within TLS is up, before anything comes of it.
    SipOpened {
        /// Which.
        flow: Flow,
        /// The domains that the peer's certificate names (RFC 5922 §7.1); none if it showed none.
        names: Vec<String>,
    },
    /// What was sent on a flow, or to a place, could not be delivered (RFC 3261 §17.1.4).
    SipFailed {
        /// Where.
        flow: Flow,
    },
    /// Where a server is that phones are called through.
    Located {
        /// For which call.
        leg: LegId,
        /// At which places, best first.
        hops: Vec<Hop>,
    },
    /// The mixer reports.
    Media(Report),
    /// The store answers a query.
    Loaded(Loaded),
    /// An operator asks.
    Admin(admin::Request),
    /// A client asks what to set up.
    Provision(provision::Request),
    /// Another configuration is in force. What cannot change while the server runs is as it was.
    Configured(Box<Config>),
    /// The process is told to stop: in good order, which takes a while if there are calls.
    Terminate,
    /// The server goes down: everyone is told, and nobody new is let in.
    ShutDown,
}

/// Everything that the server asks of the world: one list for each wire.
///
/// The shell empties them in this order: `media` first, so that who was muted is silent before
/// anyone is told; `store` next, so that nothing is acknowledged that could be lost; then the wires.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To the media workers.
    pub media: Vec<Order>,
    /// To the store, one transaction.
    pub store: Vec<Row>,
    /// To the store, after what is written: what the answers find includes it.
    pub queries: Vec<Query>,
    /// To the XMPP server, in order.
    pub stanzas: Stanzas,
    /// To SIP peers, in order.
    pub sip: Vec<Transmit>,
    /// To whoever finds out where SIP servers are.
    pub lookups: Vec<Lookup>,
    /// Answers to operators.
    pub admin: Vec<admin::Response>,
    /// What operators changed, or tried to.
    pub audit: Vec<Entry>,
    /// For those who watch events.
    pub events: Vec<admin::Event>,
}

/// The server.
#[derive(Debug)]
pub struct Bridge {
    rooms: Rooms,
    directory: Directory,
    muc: Muc,
    focus: Focus,
    admin: Admin,
    floor: Floor,
    /// What clients are told to set up.
    terms: Terms,
    links: Links,
    metrics: Metrics,
    /// How long archives keep a message; `None`: for ever.
    keep: Option<Duration>,
    /// When archives are next swept.
    sweep: Instant,
    /// The store takes nothing more.
    store_full: bool,
    /// The server is to stop when its calls are over.
    drain: Option<Drain>,
    /// How long calls may go on then, unless who asks says otherwise.
    drain_delay: Duration,
}

impl Bridge {
    /// The server as it was stored. `secret` is the component's; `seed` is where everything random
    /// comes from, and must be known to nobody.
    pub fn new(
        now: Now,
        config: &Config,
        secret: &str,
        seed: [u8; 32],
        snapshot: Snapshot,
        metrics: Metrics,
    ) -> Self {
        let domain = config.xmpp.domain.0.clone();
        let sip_domain = config.sip.domain.to_ascii_lowercase();
        let mut rooms = Rooms::new(policy(config));
        let mut history = snapshot.history;
        for (room, affiliations) in snapshot.rooms {
            let said = history.remove(&room.name).unwrap_or_default();
            rooms.restore(now, room, affiliations, said);
        }
        for (room, jid, nick) in snapshot.nicks {
            rooms.restore_nick(&room, jid, nick);
        }
        for (room, jid, nick) in snapshot.requests {
            rooms.restore_request(&room, jid, nick);
        }
        for (room, avatar) in snapshot.avatars {
            rooms.restore_avatar(&room, avatar);
        }
        for (room, hats) in snapshot.hats {
            rooms.restore_hats(&room, hats);
        }
        let mut directory = Directory::default();
        for user in snapshot.users {
            let put = directory.put(user);
            debug_assert!(put.is_ok(), "the store holds each address once");
        }
        let muc = MucConfig {
            domain: domain.clone(),
            sip_domain: sip_domain.clone(),
            spellings: config.xmpp.uri_fields.clone(),
            jitsi_conference: config.xmpp.jitsi_conference,
            secret: secret.as_bytes().to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rates: rates(config),
        };
        let calls = config.media.ports.0.calls();
        metrics.call_capacity.set(i64::try_from(calls).unwrap_or(i64::MAX));
        let [a, b, c, d, e, f, g, h, ..] = seed;
        Self {
            rooms,
            directory,
            muc: Muc::new(muc, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            focus: Focus::new(now.instant, FocusConfig::new(config), seed),
            admin: Admin::new(domain, sip_domain, DialPlan::new(config)),
            floor: Floor::default(),
            terms: Terms::new(config),
            links: Links::new(Sha256::digest([&seed[..], b"links"].concat()).into()),
            metrics,
            keep: keep(config),
            sweep: now.instant,
            store_full: false,
            drain: None,
            drain_delay: drain_delay(config),
        }
    }

    /// Takes one input all the way: decode, apply, answer, render.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Outbox) {
        match input {
            Input::Stanza(stanza) => {
                let ask = self.muc.decode(now, stanza, &self.rooms, &mut out.stanzas);
                out.queries.extend(std::iter::from_fn(|| self.muc.poll_query()));
                while let Some(order) = self.muc.poll_order() {
                    self.for_commander(now, order, out);
                }
                if let Some(ask) = ask {
                    self.for_chat(now, ask, out);
                }
            }
            Input::Link(up) => {
                self.metrics.component_up.set(up.into());
                self.muc.link(now, up);
            }
            Input::Sip { flow, message } => {
                self.metrics.count_request(message.as_ref());
                let (rooms, directory) = (&self.rooms, &self.directory);
                let asks =
                    self.focus.receive(now, flow, message, rooms, directory, &mut wires(out));
                self.for_phones(now, asks, out);
            }
            Input::SipOpened { flow, names } => self.focus.opened(flow, &names),
            Input::SipFailed { flow } => {
                let asks = self.focus.failed(now, flow, &self.rooms, &mut wires(out));
                self.for_phones(now, asks, out);
            }
            Input::Located { leg, hops } => {
                let asks = self.focus.located(now, leg, &hops, &mut wires(out));
                self.for_phones(now, asks, out);
            }
            Input::Media(report) => {
                if let Report::VoiceApplied { asked, at, .. } = report {
                    self.metrics.mirror.observe(at.saturating_duration_since(asked).as_secs_f64());
                }
                let asks = self.focus.report(now, &report, &self.rooms, &mut wires(out));
                self.for_phones(now, asks, out);
            }
            Input::Loaded(loaded) => {
                let ask = self.muc.loaded(now, loaded, &self.rooms, &mut out.stanzas);
                if let Some(ask) = ask {
                    self.for_chat(now, ask, out);
                }
            }
            Input::Admin(request) => {
                let response = self.for_operator(now, request, out);
                out.admin.push(response);
            }
            Input::Provision(request) => out.admin.push(self.provide(now, request)),
            Input::Configured(config) => {
                self.terms = Terms::new(&config);
                self.keep = keep(&config);
                self.drain_delay = drain_delay(&config);
                self.muc.set_spellings(config.xmpp.uri_fields.clone());
                self.muc.set_jitsi_conference(config.xmpp.jitsi_conference);
                self.muc.set_rates(rates(&config));
                self.focus.set_config(FocusConfig::new(&config));
                self.admin.set_dialplan(DialPlan::new(&config));
                let intake = self.rooms.policy().intake;
                let policy = Policy { intake, ..policy(&config) };
                for (room, facts) in self.rooms.set_policy(now, policy) {
                    self.publish(now, &room, &facts, out);
                }
            }
            Input::Terminate => {
                self.begin_drain(now, self.drain_delay, None, true, out);
            }
            Input::ShutDown => {
                for (room, facts) in self.rooms.shut_down() {
                    self.publish(now, &room, &facts, out);
                }
            }
        }
        self.rooms.sweep();
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let drained = self.drain.map(|drain| drain.until.instant);
        let due = [self.muc.poll_timeout(), self.focus.poll_timeout(), Some(self.sweep), drained];
        due.into_iter().flatten().min()
    }

    /// Does what is due at `now`; harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        for ask in self.muc.handle_timeout(now, &mut out.stanzas) {
            self.for_chat(now, ask, out);
        }
        let asks = self.focus.handle_timeout(now, &self.rooms, &mut wires(out));
        self.for_phones(now, asks, out);
        self.rooms.sweep();
        if self.sweep <= now.instant {
            self.sweep = now.instant + SWEEP_INTERVAL;
            let before = self.keep.and_then(|keep| now.utc.checked_sub(keep));
            out.store.push(Row::Sweep { before });
        }
    }

    /// The rooms as they are.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Whether the store takes nothing more: then what would have to be kept is refused. What was so
    /// until then.
    pub fn note_store_full(&mut self, full: bool) -> bool {
        std::mem::replace(&mut self.store_full, full)
    }

    /// Whether no new calls are taken, because the server is to stop.
    pub fn is_draining(&self) -> bool {
        self.rooms.policy().intake > Intake::Open
    }

    /// How many calls there are, with those that nobody has answered yet.
    pub fn calls(&self) -> usize {
        self.focus.calls()
    }

    /// Whether the server is to stop, and nothing is left to wait for: no call, or no more time.
    pub fn has_drained(&self, now: Now) -> bool {
        let over = |drain: Drain| drain.until.instant <= now.instant || self.focus.calls() == 0;
        self.drain.is_some_and(over)
    }

    /// Whether no phone is in a dialog with us: after [`Input::ShutDown`], all goodbyes are answered.
    pub fn has_parted(&self) -> bool {
        self.focus.dialogs() == 0
    }

    /// In how many legs the mixer was told something else than the rooms say; 0, or a fault.
    pub fn divergence(&self) -> usize {
        self.floor.divergence(&self.rooms)
    }

    /// Brings the gauges up to date, and tells phones how the mixer fares: cheap enough for once a second, too dear for each input.
    pub fn measure(&mut self) {
        self.focus.note_stress(self.metrics.stress.get());
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.rooms.set(gauge(self.rooms.len()));
        // One look at everyone, whatever is counted.
        let mut levels = BTreeMap::from(["chat", "audio", "both"].map(|level| (level, 0)));
        let mut states = BTreeMap::from(["held", "connected", "muted"].map(|state| (state, 0)));
        let dialling = self.rooms.iter().map(|room| room.dials.len()).sum();
        states.insert("dialling", dialling);
        let strengths = ["none", "claimed", "dialled", "asserted", "digest"];
        let mut bindings: BTreeMap<_, _> =
            strengths.iter().flat_map(|it| [((*it, "yes"), 0), ((*it, "no"), 0)]).collect();
        for person in self.rooms.iter().flat_map(|room| room.people.values()) {
            let level = match person.level() {
                Level::Chat => "chat",
                Level::Audio => "audio",
                Level::Both => "both",
            };
            *levels.entry(level).or_default() += 1;
            let bound = if matches!(person.who, Who::Jid(_)) { "yes" } else { "no" };
            for (id, leg) in &person.legs {
                let state = match (leg.hold, person.may_be_heard(*id)) {
                    (true, _) => "held",
                    (false, true) => "connected",
                    (false, false) => "muted",
                };
                *states.entry(state).or_default() += 1;
                let strength = schema::strength(Some(leg.caller.proof), &person.who);
                *bindings.entry((strength, bound)).or_default() += 1;
            }
        }
        for (level, count) in levels {
            self.metrics.people.with_label_values(&[level]).set(gauge(count));
        }
        for (state, count) in states {
            self.metrics.call_legs.with_label_values(&[state]).set(gauge(count));
        }
        for ((strength, bound), count) in bindings {
            self.metrics.bindings.with_label_values(&[strength, bound]).set(gauge(count));
        }
        Metrics::catch_up(
            &self.metrics.auth_failures.with_label_values(&["sip"]),
            self.focus.wrong_passwords(),
        );
        self.metrics.draining.set(self.is_draining().into());
        self.metrics.subscriptions.set(gauge(self.focus.subscriptions()));
        let Limited { rate, guesses, stress } = self.focus.limited();
        for (reason, total) in [("rate", rate), ("guesses", guesses), ("stress", stress)] {
            Metrics::catch_up(&self.metrics.sip_limited.with_label_values(&[reason]), total);
        }
        self.metrics.mirror_divergence.set(gauge(self.divergence()));
    }

    fn for_chat(&mut self, now: Now, ask: muc::Ask, out: &mut Outbox) {
        let muc::Ask { room, by, command, reply } = ask;
        let (result, facts) = self.apply(now, &room, &by, command);
        if let Some(room) = self.rooms.get(&room) {
            self.muc.throw_out(room, &facts, &mut out.stanzas);
        }
        self.muc.answer(&room, reply, result, &mut out.stanzas);
        self.publish(now, &room, &facts, out);
    }

    fn for_phones(&mut self, now: Now, asks: Vec<focus::Ask>, out: &mut Outbox) {
        for focus::Ask { room, by, command, reply } in asks {
            let (result, facts) = self.apply(now, &room, &by, command);
            self.focus.answer(now, reply, result, &self.rooms, &mut wires(out));
            self.publish(now, &room, &facts, out);
        }
    }

    fn for_operator(
        &mut self,
        now: Now,
        request: admin::Request,
        out: &mut Outbox,
    ) -> admin::Response {
        let entry = Entry::of(now, &request, &self.rooms);
        let response = self.obey(now, request, out);
        out.audit.extend(entry.map(|entry| entry.ended(&response)));
        response
    }

    fn obey(&mut self, now: Now, request: admin::Request, out: &mut Outbox) -> admin::Response {
        let store = (!self.store_full).then_some(&mut out.store);
        match self.admin.decode(request, &self.rooms, &mut self.directory, store) {
            Step::Done(response) => response,
            Step::Ask(ask) => {
                let admin::Ask { room, by, command, reply } = *ask;
                let (result, facts) = self.apply(now, &room, &by, command);
                self.publish(now, &room, &facts, out);
                self.admin.answer(reply, result, &self.rooms)
            }
            Step::Announce(Announcement { subject, announcement }, response) => {
                self.muc.announce(subject.as_deref(), &announcement, &mut out.stanzas);
                response
            }
            Step::Drain(admin::Draining { delay, announcement }, ticket) => {
                let delay = delay.map_or(self.drain_delay, Duration::from_secs);
                let drain = self.begin_drain(now, delay, announcement.as_deref(), false, out);
                let (until, calls) = (stamp(drain.until.utc), self.focus.calls());
                let body = json!({ "until": until, "calls": calls });
                admin::Response { ticket, status: 200, body }
            }
            Step::Undrain(ticket) => {
                let (status, body) = self.end_drain(out);
                admin::Response { ticket, status, body }
            }
            Step::Link(user, ticket) => {
                let (status, body) = if self.terms.are_told() {
                    let path = format!("/provision/{}", self.links.make(now.instant, user));
                    (200, json!({ "path": path, "expires": stamp(now.utc + LINK_LIFETIME) }))
                } else {
                    (409, json!({ "error": "provision.enabled is false" }))
                };
                admin::Response { ticket, status, body }
            }
        }
    }

    /// Takes no new calls from now on, and tells everyone; the earliest end that was named holds.
    fn begin_drain(
        &mut self,
        now: Now,
        delay: Duration,
        announcement: Option<&str>,
        is_final: bool,
        out: &mut Outbox,
    ) -> Drain {
        let asked = Drain { until: now + delay, is_final };
        let drain = self.drain.map_or(asked, |drain| drain.merge(asked));
        // Who was told the same already is not told again.
        if self.focus.calls() > 0 && self.drain.is_none_or(|old| old.until != drain.until) {
            let words = drain::announcement(delay);
            self.muc.announce(None, announcement.unwrap_or(&words), &mut out.stanzas);
        }
        self.drain = Some(drain);
        if self.rooms.policy().intake == Intake::Open {
            self.rooms.set_intake(Intake::Draining);
        }
        drain
    }

    /// Takes calls again, unless the process has to stop.
    fn end_drain(&mut self, out: &mut Outbox) -> (u16, Value) {
        match self.drain {
            Some(drain) if drain.is_final || self.rooms.policy().intake == Intake::Closed => {
                (409, json!({ "error": "the process was told to stop, and will" }))
            }
            Some(_) => {
                self.drain = None;
                self.rooms.set_intake(Intake::Open);
                self.muc.announce(None, drain::STAYS, &mut out.stanzas);
                (204, Value::Null)
            }
            None => (409, json!({ "error": "the server is not draining" })),
        }
    }

    /// An operator or moderator asks by an ad-hoc command what others ask over HTTP.
    fn for_commander(&mut self, now: Now, order: muc::Order, out: &mut Outbox) {
        let (status, body) = match Question::read(order.operation, &order.values) {
            Ok(question) => {
                let (by, via) = (order.by.clone(), Via::AdHoc);
                let request = admin::Request { ticket: 0, by, via, question };
                let response = self.for_operator(now, request, out);
                (response.status, response.body)
            }
            Err(why) => (400, json!({ "error": why })),
        };
        self.muc.ordered(order, status, &body, &mut out.stanzas);
    }

    fn provide(&mut self, now: Now, request: provision::Request) -> admin::Response {
        let provision::Request { ticket, from, proof, form } = request;
        let told = match &proof {
            Proof::Password(name, password) => {
                let user = self.focus.log_in(now, from, name, password, &self.directory);
                user.map(|user| self.terms.tell(user, Some(password), form))
            }
            Proof::Token(token) => match self.focus.admits(now, from) {
                true => {
                    let user = self.links.open(now.instant, token);
                    let user = user.and_then(|user| self.directory.by_jid(&user));
                    let told = user.map(|user| self.terms.tell(user, None, form));
                    told.ok_or(LogInRefused::Wrong)
                }
                false => Err(LogInRefused::TooOften),
            },
        };
        let (status, body) = match (told, proof) {
            (Ok(told), _) => (200, told),
            (Err(LogInRefused::Wrong), Proof::Password(..)) => {
                (401, "no such user, or another password".to_owned())
            }
            (Err(LogInRefused::Wrong), Proof::Token(_)) => {
                (404, "this link was used, has ended, or never was".to_owned())
            }
            (Err(LogInRefused::TooOften), _) => (429, "too often; try again later".to_owned()),
        };
        admin::Response { ticket, status, body: body.into() }
    }

    fn apply(
        &mut self,
        now: Now,
        room: &RoomName,
        by: &By,
        command: Command,
    ) -> (Result<(), Refusal>, Vec<Fact>) {
        // Only a change that was made shows whether it would have to be kept.
        let before = self.store_full.then(|| self.rooms.get(room).cloned());
        match self.rooms.apply(now, room, by, command) {
            Ok(facts) => match before {
                Some(before) if self.are_kept(room, &facts) => {
                    self.rooms.put_back(room, before);
                    (Err(Refusal::NotKept), vec![])
                }
                Some(_) | None => (Ok(()), facts),
            },
            Err(refusal) => (Err(refusal), vec![]),
        }
    }

    /// Whether facts leave something in the store.
    fn are_kept(&self, room: &RoomName, facts: &[Fact]) -> bool {
        let Some(room) = self.rooms.get(room) else { return false };
        let mut rows = vec![];
        facts.iter().for_each(|fact| journal::write(room, fact, &mut rows));
        !rows.is_empty()
    }

    /// Shows facts everywhere, the mixer first.
    fn publish(&mut self, now: Now, room: &RoomName, facts: &[Fact], out: &mut Outbox) {
        let Some(room) = self.rooms.get(room) else { return };
        for fact in facts {
            self.floor.render(now, room, fact, &mut out.media);
        }
        for fact in facts {
            self.muc.render(now, room, fact, &mut out.stanzas);
            self.focus.render(now, room, fact, &mut wires(out));
            journal::write(room, fact, &mut out.store);
            out.events.extend(admin::render(room, fact));
        }
    }
}

/// What the phone face fills.
fn wires(out: &mut Outbox) -> focus::Wires<'_> {
    focus::Wires { sip: &mut out.sip, media: &mut out.media, lookups: &mut out.lookups }
}

fn policy(config: &Config) -> Policy {
    Policy {
        admins: Arc::new(config.xmpp.admins.iter().map(|admin| admin.0.clone()).collect()),
        creation: match config.xmpp.create_rooms {
            CreateRooms::Anyone => Creation::Anyone,
            CreateRooms::Admins => Creation::Admins,
        },
        max_rooms: config.xmpp.max_rooms,
        max_rooms_of_one: config.xmpp.max_rooms_of_one,
        max_people: config.xmpp.max_people,
        max_dials: config.sip.max_dials,
        intake: Intake::Open,
    }
}

fn drain_delay(config: &Config) -> Duration {
    Duration::from_secs(config.run.drain_seconds.into())
}

fn keep(config: &Config) -> Option<Duration> {
    (config.xmpp.archive_days > 0).then(|| DAY * config.xmpp.archive_days)
}

/// How often chat sessions may send what; the configuration speaks of seconds.
fn rates(config: &Config) -> muc::Rates {
    let rate = |a_second: u32, burst| Rate { interval: Duration::from_secs(1) / a_second, burst };
    let xmpp = &config.xmpp;
    muc::Rates {
        messages: rate(xmpp.max_messages_of_one, xmpp.max_message_burst_of_one),
        presences: rate(xmpp.max_presences_of_one, xmpp.max_presence_burst_of_one),
        joins: rate(xmpp.max_joins, xmpp.max_join_burst),
        ..muc::Rates::default()
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often what archives need not keep any more is deleted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_rates_are_those_of_the_chat_face_unless_somebody_says_otherwise() {
        let minimal = json!({
            "xmpp": { "domain": "rooms.example.org", "secret": "x" },
            "sip": { "domain": "conf.example.org" },
        });
        let config = serde_json::from_value(minimal).unwrap();
        assert_eq!(rates(&config), muc::Rates::default());
    }
}
