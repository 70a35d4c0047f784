//! How phones see rooms: a conference focus (RFC 4353, RFC 4579) with its event package (RFC 4575).
//!
//! Three functions, as for every face: [`Focus::receive`] decodes what callers ask, [`Focus::answer`]
//! answers the one who asked, [`Focus::render`] shows to all what became true. It knows SIP, SDP and
//! rooms; it knows nothing of sockets, of stanzas, or of how audio is mixed.
//!
//! | read | to learn |
//! | --- | --- |
//! | `call` | calls: INVITE, re-INVITE, ACK, BYE |
//! | `dial` | calls that rooms make: where to, INVITE, until somebody answers |
//! | `refer` | REFER: moderators on the phone call others, or throw them out |
//! | `keypad` | what callers do by the keys of their phones |
//! | `announce` | what callers are told by voice and tone |
//! | `factory` | calls that make their conference |
//! | `replaces` | calls that mean another: Join, Replaces |
//! | `leg` | one call leg: its dialog, offer and answer |
//! | `offer` | our media policy |
//! | `ports` | the RTP port pool |
//! | `caller` | who calls: trusted proxy, digest, their own word |
//! | `door` | what keeps them out: refusals, passwords of rooms |
//! | `limits` | what one source may ask for, and how often it may be wrong |
//! | `status` | refusals and departures in the words of SIP |
//! | `subscribe` | subscriptions: SUBSCRIBE, NOTIFY |
//! | `notify` | who watches a conference, and what they are told |
//! | `options` | what a focus says of itself |
//! | `address` | which URI means which room |

mod address;
mod announce;
mod call;
mod caller;
mod dial;
mod door;
mod factory;
mod keypad;
mod leg;
mod limits;
mod notify;
mod offer;
mod options;
mod ports;
mod refer;
mod replaces;
mod status;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use cusax_sip::digest::Verifier;
use cusax_sip::endpoint::{self, DialogId, Endpoint, Event, SessionTimer};
use cusax_sip::flow::{Flow, Transmit, Transport};
use cusax_sip::header::Headers;
use cusax_sip::message::{Message, Method, Status};
use cusax_sip::parse::ParseError;
use jid::DomainPart;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clock::Now;
use crate::config::{self, Auth, Network, PortRange};
use crate::dialplan::{DialPlan, Lookup};
use crate::directory::{Directory, User};
use crate::id::{LegId, RoomName};
use crate::mixer::plan::{Order, Prompt, Report};
use crate::rate::Source;
use crate::room::{Arrival, By, Command, Fact, Refusal, Room, Rooms};
use announce::Chimed;
use call::{accepted, ending, hang_up, unacceptable};
pub use caller::LogInRefused;
use caller::{Callers, Trust};
use dial::Dials;
pub use dial::Outbound;
pub use factory::Factory;
use factory::Promises;
pub use keypad::Pressed;
use keypad::Way;
use leg::Leg;
use limits::{Guesses, Throttle, Verdict};
pub use limits::{Limited, Limits};
use notify::{Scribe, Watchers};
use options::SUPPORTED;
use ports::PortPool;
use refer::{Asked, Referrals};
pub use refer::{Referrer, Referring};
use status::Farewell;

/// What the focus is told: `[sip]` and `[media]` of the configuration.
#[derive(Clone, Debug)]
pub struct FocusConfig {
    /// Conference URIs are `sip:ROOM@domain`.
    pub domain: String,
    /// The chat rooms are `ROOM@xmpp_domain`.
    pub xmpp_domain: DomainPart,
    /// Where SIP listens: these addresses name conferences as the domain does.
    pub listen: Vec<(Transport, SocketAddr)>,
    /// Whose P-Asserted-Identity counts.
    pub trusted_proxies: Vec<Network>,
    /// Whose as well, when a certificate proves who they are.
    pub trusted_domains: Vec<String>,
    /// Who may call.
    pub auth: Auth,
    /// Whom rooms may call.
    pub dialplan: DialPlan,
    /// Through whom rooms call people; without one, where their address says.
    pub outbound: Option<Outbound>,
    /// The address that SDP shows.
    pub media_address: IpAddr,
    /// The ports of audio.
    pub ports: PortRange,
    /// How long calls last that nobody refreshes.
    pub session: SessionTimer,
    /// The address that makes a conference for each call, if there is one.
    pub factory: Option<Factory>,
    /// What one source may ask for.
    pub limits: Limits,
    /// What callers do by which keys.
    pub keypad: config::Keypad,
    /// Whether callers are told by voice what becomes of them.
    pub prompts: bool,
    /// In rooms with more calls than these, no tone tells who comes and goes.
    pub tones_up_to: usize,
}

/// The phone face.
#[derive(Debug)]
pub struct Focus {
    config: FocusConfig,
    endpoint: Endpoint,
    callers: Callers,
    ports: PortPool,
    rng: StdRng,
    next_leg: u64,
    legs: BTreeMap<LegId, Leg>,
    /// Calls that rooms make, until they are answered.
    dials: Dials,
    /// Who is told what becomes of them.
    referrals: Referrals,
    dialogs: BTreeMap<DialogId, LegId>,
    /// Conferences that callers were told of.
    promises: Promises,
    /// Who checks the passwords of rooms that have one.
    doors: BTreeMap<RoomName, Verifier>,
    throttle: Throttle,
    limited: Limited,
    pressed: Pressed,
    chimed: Chimed,
    /// How near the mixer is to being late, 0 to 1.
    stress: f64,
    watchers: Watchers,
    scribe: Scribe,
}

/// What a caller wants, and where to send the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Of which room.
    pub room: RoomName,
    /// Who.
    pub by: By,
    /// What.
    pub command: Command,
    /// Comes back with the answer.
    pub reply: Reply,
}

/// To whom an answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To the caller of this leg, who waits for it.
    Call(LegId),
    /// To the caller of this leg, who pressed a key; what is said if it came about.
    Key(LegId, Option<Prompt>),
    /// To who sent a REFER.
    Refer(Box<Referring>),
    /// To nobody: it has been answered, or needs no answer.
    Nobody,
}

/// Where the focus puts what it sends.
#[derive(Debug)]
pub struct Wires<'a> {
    /// To SIP peers, in order.
    pub sip: &'a mut Vec<Transmit>,
    /// To the media workers, in order, before anything of `sip` leaves.
    pub media: &'a mut Vec<Order>,
    /// To whoever can find out where a server is; [`Focus::located`] takes the answer.
    pub lookups: &'a mut Vec<Lookup>,
}

impl Focus {
    /// A focus without calls. Everything that nobody may guess (tags, nonces, ports, SSRCs) comes
    /// from the seed.
    pub fn new(now: Instant, config: FocusConfig, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let endpoint = endpoint::Config {
            supported: SUPPORTED.iter().map(|tag| (*tag).to_owned()).collect(),
            product: PRODUCT.to_owned(),
            session: Some(config.session),
            limits: endpoint::Limits::default(),
        };
        let trust = Trust::new(config.trusted_proxies.clone(), config.trusted_domains.clone());
        let guesses = Guesses::new(config.limits.wrong_passwords, rng.random());
        Self {
            endpoint: Endpoint::new(endpoint, rng.random()),
            callers: Callers::new(now, config.auth, trust, &config.domain, rng.random(), guesses),
            ports: PortPool::new(config.ports),
            scribe: Scribe { key: rng.random() },
            rng,
            next_leg: 1,
            legs: BTreeMap::new(),
            dials: Dials::new(),
            referrals: Referrals::new(),
            dialogs: BTreeMap::new(),
            promises: Promises::new(),
            doors: BTreeMap::new(),
            throttle: Throttle::new(config.limits.requests),
            limited: Limited::default(),
            pressed: Pressed::default(),
            chimed: Chimed::default(),
            stress: 0.0,
            watchers: Watchers::default(),
            config,
        }
    }

    /// Puts another configuration in force, for what comes from now on. Its addresses, domains and ports
    /// have to be those that the focus began with.
    pub fn set_config(&mut self, config: FocusConfig) {
        self.callers.set_rules(config.auth, config.trusted_proxies.clone());
        self.callers.guesses.set_most(config.limits.wrong_passwords);
        self.throttle.set_rate(config.limits.requests);
        self.endpoint.set_session(Some(config.session));
        self.config = config;
    }

    /// Takes a message, or what came in place of one. What would begin something meets the limits of
    /// its source first.
    pub fn receive(
        &mut self,
        now: Now,
        flow: Flow,
        mut message: Result<Message, ParseError>,
        rooms: &Rooms,
        directory: &Directory,
        out: &mut Wires<'_>,
    ) -> Vec<Ask> {
        match self.judge(now, flow, &mut message) {
            Verdict::Admit => {}
            Verdict::Refuse => {
                if let Ok(Message::Request(request)) = message {
                    self.endpoint.turn_away(flow, request, out.sip);
                }
                return vec![];
            }
            Verdict::Ignore => return vec![],
        }
        let events = self.endpoint.receive_message(now.instant, flow, message, out.sip);
        self.decode(now, events, rooms, directory, out)
    }

    /// Whether a message may come in, before it costs any memory. Malformed requests count, since they
    /// are answered; answers, and what nobody answers, do not.
    fn judge(
        &mut self,
        now: Now,
        flow: Flow,
        message: &mut Result<Message, ParseError>,
    ) -> Verdict {
        let begins = match message {
            Ok(Message::Request(request)) => self.endpoint.begins(flow, request),
            Err(ParseError::Rejected(_)) => true,
            Ok(Message::Response(_)) | Err(ParseError::Dropped(_)) => false,
        };
        let stranger = self.callers.stranger(flow).filter(|_| begins);
        let Some(source) = stranger else { return Verdict::Admit };
        let verdict = self.throttle.admit(now.instant, source);
        self.limited.rate += u64::from(verdict != Verdict::Admit);
        verdict
    }

    /// Takes note of a new connection, and of the names in its certificate, if one was verified.
    pub fn opened(&mut self, flow: Flow, names: &[String]) {
        self.callers.trust.opened(flow, names);
    }

    /// Takes note that nothing can be sent over a flow.
    pub fn failed(&mut self, now: Now, flow: Flow, rooms: &Rooms, out: &mut Wires<'_>) -> Vec<Ask> {
        self.callers.trust.closed(flow);
        let events = self.endpoint.failed(now.instant, flow, out.sip);
        self.decode(now, events, rooms, &Directory::default(), out)
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dials = self.dials.values().map(|dialling| dialling.give_up_at).min();
        let times = [self.endpoint.poll_timeout(), self.watchers.poll_timeout(), dials];
        times.into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Now, rooms: &Rooms, out: &mut Wires<'_>) -> Vec<Ask> {
        let events = self.endpoint.handle_timeout(now.instant, out.sip);
        let mut asks = self.decode(now, events, rooms, &Directory::default(), out);
        asks.extend(self.give_up_dials(now, out));
        self.notify(now, rooms, out);
        asks
    }

    /// Takes what a media worker reports.
    pub fn report(
        &mut self,
        now: Now,
        report: &Report,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) -> Vec<Ask> {
        match report {
            Report::Source { leg, ssrc } => {
                if let Some(leg) = self.legs.get_mut(leg)
                    && leg.src_id.replace(*ssrc) != Some(*ssrc)
                {
                    self.watchers.changed(now.instant, &leg.room);
                }
                vec![]
            }
            Report::Dead { leg } => {
                self.give_up(now, *leg, Status::REQUEST_TIMEOUT, "No media", out)
            }
            Report::OpenFailed { leg, why } => {
                tracing::warn!(%leg, why, "a leg could not be opened");
                self.give_up(now, *leg, Status::SERVICE_UNAVAILABLE, "No media port", out)
            }
            Report::Digit { leg, digit } => self.press(now, *leg, (Way::Rtp, *digit), rooms, out),
            Report::Speaking { .. } | Report::VoiceApplied { .. } => vec![],
        }
    }

    /// Answers the one who asked.
    pub fn answer(
        &mut self,
        now: Now,
        reply: Reply,
        result: Result<(), Refusal>,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
        let id = match reply {
            Reply::Call(id) => id,
            Reply::Key(id, done) => {
                let prompt = match result {
                    Ok(()) => done,
                    Err(Refusal::Forbidden | Refusal::NotAllowed) => Some(Prompt::NotPermitted),
                    Err(_) => None,
                };
                return self.say(id, prompt.as_slice(), out);
            }
            Reply::Refer(referring) => {
                return self.answer_refer(now, *referring, result, rooms, out);
            }
            Reply::Nobody => return,
        };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if !leg.waits {
            // They answered us; all that is left is to hang up if the room is gone.
            if let Err(refusal) = result {
                let (status, text) = status::refused(refusal);
                self.part(now, id, Some(&Farewell::because(status.code(), text)), out);
            }
            return;
        }
        leg.waits = false;
        let dialog = leg.dialog;
        let response = match result {
            Ok(()) => {
                if leg.audio.is_none() {
                    leg.offer(&mut self.rng);
                }
                accepted(&self.config, leg)
            }
            Err(refusal) => {
                let (room, denied, media) = (leg.room.clone(), leg.denied, leg.refusal);
                self.forget(now, id, out);
                match (refusal, media) {
                    (Refusal::NoCommonMedia, Some(media)) => {
                        unacceptable(&self.config, &room, media)
                    }
                    _ => *self.refuse(now, &room, refusal, denied),
                }
            }
        };
        self.endpoint.answer(now.instant, dialog, response, out.sip);
    }

    /// Shows a fact to everyone whom it concerns.
    pub fn render(&mut self, now: Now, room: &Room, fact: &Fact, out: &mut Wires<'_>) {
        self.show(now, room, fact, out);
        self.announce(now, room, fact, out);
    }

    fn show(&mut self, now: Now, room: &Room, fact: &Fact, out: &mut Wires<'_>) {
        match fact {
            Fact::CallEntered { person, leg, .. } => {
                let heard = room.person(*person).is_some_and(|person| person.may_be_heard(*leg));
                if let Some(leg) = self.legs.get_mut(leg) {
                    leg.tell_mixer(heard, out.media);
                }
                self.watchers.changed(now.instant, &room.name);
            }
            Fact::CallLeft { leg, ending, .. } => {
                let farewell = Farewell::after(ending);
                self.part(now, *leg, farewell.as_ref(), out);
                self.watchers.changed(now.instant, &room.name);
            }
            Fact::Gone { was, departure, reason, .. } => {
                let farewell = status::departed(*departure, reason.as_deref());
                for leg in was.legs.keys() {
                    self.part(now, *leg, farewell.as_ref(), out);
                }
                // Who went by themselves may still watch, if the room lets them.
                if let Some(farewell) = farewell {
                    let ids = self.watchers.of(&room.name, |who| *who == was.who);
                    self.end_watching(now, ids, &farewell, out);
                }
                self.watchers.changed(now.instant, &room.name);
            }
            Fact::Destroyed { people, end } => {
                let farewell = status::ended(end);
                for leg in people.iter().flat_map(|person| person.legs.keys()) {
                    self.part(now, *leg, Some(&farewell), out);
                }
                self.drop_dials(now, out, |dialling| dialling.room == room.name);
                self.end_referrals(now, &room.name, out);
                let ids = self.watchers.of(&room.name, |_| true);
                self.end_watching(now, ids, &farewell, out);
                self.doors.remove(&room.name);
            }
            Fact::Dialled { dial } => {
                if let Some(dial) = room.dials.get(dial) {
                    self.dial(now, room, dial, out);
                }
                self.watchers.changed(now.instant, &room.name);
            }
            Fact::DialEnded { was, end } => {
                self.end_dial(now, &room.name, was.id, end, out);
                self.report_end(now, &room.name, was.id, end, out);
                self.watchers.changed(now.instant, &room.name);
            }
            Fact::ChatEntered { arrival: Arrival::Again, .. } => {}
            Fact::ChatEntered { arrival: Arrival::New | Arrival::Joined, .. }
            | Fact::Renamed { .. }
            | Fact::LegChanged { .. }
            | Fact::ChatLeft { .. }
            | Fact::StandingChanged { .. }
            | Fact::AffiliationChanged { .. }
            | Fact::MuteChanged { .. }
            | Fact::Retracted { .. }
            | Fact::SubjectChanged(_)
            | Fact::Configured { .. }
            | Fact::LockChanged => self.watchers.changed(now.instant, &room.name),
            Fact::Created { .. }
            | Fact::PresenceShown { .. }
            | Fact::HandChanged { .. }
            | Fact::VoiceRequested { .. }
            | Fact::Spoken(_)
            | Fact::Whispered { .. }
            | Fact::AvatarChanged
            | Fact::HatsChanged { .. }
            | Fact::NickRegistered { .. }
            | Fact::RegistrationRequested { .. }
            | Fact::RequestEnded { .. } => {}
        }
    }

    /// The user of the directory who knows a password, for other doors than a call. It is one more
    /// request of its source, and a wrong one counts as in a call.
    pub fn log_in<'a>(
        &mut self,
        now: Now,
        source: IpAddr,
        name: &str,
        password: &str,
        directory: &'a Directory,
    ) -> Result<&'a User, LogInRefused> {
        if !self.admits(now, source) {
            return Err(LogInRefused::TooOften);
        }
        self.callers.log_in(now.instant, source, name, password, directory)
    }

    /// Counts one more request of a source that is no SIP; whether it is not too many.
    pub fn admits(&mut self, now: Now, source: IpAddr) -> bool {
        let admitted = self.throttle.admit(now.instant, Source::of(source)) == Verdict::Admit;
        self.limited.rate += u64::from(!admitted);
        admitted
    }

    /// How many calls there are, with those that nobody has answered yet.
    pub fn calls(&self) -> usize {
        self.legs.len() + self.dials.len()
    }

    /// How many dialogs there are, of calls and of subscriptions, those that are ending among them.
    pub fn dialogs(&self) -> usize {
        self.endpoint.load().dialogs
    }

    /// Takes note of how near the mixer is to being late, 0 to 1: new calls wait until it has time for
    /// those that are up.
    pub fn note_stress(&mut self, stress: f64) {
        self.stress = stress;
    }

    fn is_strained(&self) -> bool {
        self.stress > self.config.limits.max_stress
    }

    /// How much was turned away so far.
    pub fn limited(&self) -> Limited {
        Limited { guesses: self.callers.guesses.refused(), ..self.limited }
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.watchers.len()
    }

    /// How many wrong passwords were given, of users and of rooms.
    pub fn wrong_passwords(&self) -> u64 {
        self.callers.guesses.wrong()
    }

    fn decode(
        &mut self,
        now: Now,
        events: Vec<Event>,
        rooms: &Rooms,
        directory: &Directory,
        out: &mut Wires<'_>,
    ) -> Vec<Ask> {
        let mut asks = vec![];
        for event in events {
            match event {
                Event::Invite { dialog, flow, request } => {
                    match self.invite(now, dialog, flow, &request, rooms, directory) {
                        Ok(wanted) => asks.extend(wanted),
                        Err(refusal) => {
                            self.endpoint.answer(now.instant, dialog, *refusal, out.sip);
                        }
                    }
                }
                Event::Reinvite { dialog, request, .. } => {
                    asks.extend(self.reinvite(now, dialog, &request, rooms, out));
                }
                Event::Update { id, dialog, request, .. } => {
                    asks.extend(self.update(now, id, dialog, &request, rooms, out));
                }
                Event::RefreshDue { dialog } | Event::Retry { dialog } => {
                    self.refresh_session(now, dialog, out);
                }
                Event::Ack { dialog, request } => {
                    let answer = request.map(|ack| ack.body).unwrap_or_default();
                    asks.extend(self.acknowledged(now, dialog, &answer, rooms, out));
                }
                Event::Ended { dialog, why } => {
                    let Some(id) = self.dialogs.get(&dialog).copied() else { continue };
                    if self.dials.contains_key(&id) {
                        asks.extend(self.turned_down(now, id, &why, out));
                        continue;
                    }
                    asks.extend(self.forget(now, id, out).map(|leg| hang_up(leg, ending(&why))));
                }
                Event::Request { id, dialog, flow, request } if request.method == Method::Refer => {
                    let (to, request) = (Referrer::Silent(id), &request);
                    let asked = Asked { to, dialog, flow, request, rooms, directory };
                    asks.extend(self.refer(now, &asked, out));
                }
                Event::Request { id, dialog, request, .. } if request.method == Method::Info => {
                    let leg = dialog.and_then(|dialog| self.dialogs.get(&dialog)).copied();
                    let (answer, wanted) = self.info(now, leg, &request, rooms, out);
                    self.endpoint.respond(now.instant, id, answer, out.sip);
                    asks.extend(wanted);
                }
                Event::Request { id, dialog, flow, request } => {
                    self.request(now, id, dialog, flow, &request, rooms, out);
                }
                Event::Subscribe { subscription, dialog, flow, request }
                    if request.method == Method::Refer =>
                {
                    let (to, request) = (Referrer::Subscribed(subscription), &request);
                    let dialog = Some(dialog);
                    let asked = Asked { to, dialog, flow, request, rooms, directory };
                    asks.extend(self.refer(now, &asked, out));
                }
                Event::Subscribe { subscription, dialog, flow, request } => {
                    self.subscribe(
                        now,
                        subscription,
                        dialog,
                        flow,
                        &request,
                        rooms,
                        directory,
                        out,
                    );
                }
                Event::Refresh { subscription, request, .. } => {
                    self.refresh(now, subscription, &request, rooms, out);
                }
                Event::Notified { subscription, status } => {
                    self.watchers.notified(now.instant, subscription, status.is_success());
                    self.notify(now, rooms, out);
                }
                Event::Unsubscribed { subscription, .. } => {
                    self.watchers.remove(subscription);
                    self.referrals.remove(&subscription);
                }
                Event::ReinviteCancelled { dialog } | Event::Refused { dialog, .. } => {
                    if let Some(leg) = self.leg_of(dialog) {
                        leg.negotiation.withdraw();
                    }
                }
                Event::Progress { dialog, response } => {
                    self.progressed(now, dialog, &response, out);
                }
                Event::Answered { dialog, response } if self.leg_of(dialog).is_some() => {
                    self.endpoint.ack(dialog, Headers::new(), vec![], out.sip);
                    asks.extend(self.acknowledged(now, dialog, &response.body, rooms, out));
                }
                Event::Answered { dialog, response } => {
                    asks.extend(self.picked_up(now, dialog, &response, out));
                }
                // Answers to requests that we do not send.
                Event::Response { .. } => {}
            }
        }
        asks
    }

    fn new_leg(&mut self) -> LegId {
        let id = LegId(self.next_leg);
        self.next_leg += 1;
        id
    }
}

/// The name that we give ourselves.
const PRODUCT: &str = concat!("cusaxd/", env!("CARGO_PKG_VERSION"));
