//! A session: both connections, a room or a call, and what the person does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossterm::event::KeyEvent;
use cusax_client::caller::{Call as Caller, Trust};
use cusax_client::connections::{Connections, Fault, Policy, Side, State, Step};
use cusax_client::driver::Lost;
use cusax_client::driver::audio::Meter;
use cusax_client::driver::chat::{self, Chat};
use cusax_client::driver::voice::{self, Voice, Why};
use cusax_client::link::{self, Confirmation, Hint, Related, RoomInfo, Way};
use cusax_client::people::{MutedBy, People, Person, Role};
use cusax_client::room;
use cusax_client::security::{self, Lacks, Memory, Mend};
use cusax_sip::uri::Uri;
use jid::{BareJid, Jid};
use minidom::Element;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::account::Saved;
use crate::exit::Exit;
use crate::view::{News, View, muted_by};
use crate::wav::Files;
use crate::wish::{HELP, Wish};

/// What a session is about.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The room to be in, if one is.
    pub(crate) room: Option<Room>,
    /// What is called; in a room, what the room names.
    pub(crate) call: Option<Uri>,
    pub(crate) policy: Policy,
    /// What is said, and where what is heard is kept.
    pub(crate) play: Option<PathBuf>,
    pub(crate) record: Option<PathBuf>,
    /// The time after which it ends by itself.
    pub(crate) lasts: Option<Duration>,
    /// It begins muted.
    pub(crate) muted: bool,
    /// Take what calls.
    pub(crate) answer: bool,
}

/// A room to be in.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) jid: BareJid,
    pub(crate) nick: String,
    pub(crate) password: Option<String>,
    /// Call its conference too.
    pub(crate) call: bool,
    /// Call it though it names another room.
    pub(crate) anyway: bool,
    /// Make it if there is none.
    pub(crate) create: bool,
}

/// Everything that happens to a session.
#[derive(Debug)]
pub(crate) enum Event {
    Chat(chat::Event),
    Voice(voice::Event),
    ChatUp(Result<ChatBox, Lost>),
    VoiceUp(Result<VoiceBox, (Lost, Option<Duration>)>),
    Wish(Wish),
    Key(KeyEvent),
}

/// A connection on its way to its owner.
pub(crate) struct ChatBox(Chat);
/// See [`ChatBox`].
pub(crate) struct VoiceBox(Voice);

impl std::fmt::Debug for ChatBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChatBox")
    }
}

impl std::fmt::Debug for VoiceBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VoiceBox")
    }
}

impl From<chat::Event> for Event {
    fn from(event: chat::Event) -> Self {
        Self::Chat(event)
    }
}

impl From<voice::Event> for Event {
    fn from(event: voice::Event) -> Self {
        Self::Voice(event)
    }
}

pub(crate) struct Session {
    plan: Plan,
    saved: Saved,
    /// Where it is stored.
    path: PathBuf,
    view: View,
    connections: Connections,
    memory: Memory,
    chat: Option<Chat>,
    voice: Option<Voice>,
    sender: mpsc::Sender<Event>,
    people: Option<People>,
    /// The room has let us in.
    inside: bool,
    /// It once did.
    been_inside: bool,
    /// When to ask for it again.
    again: Option<Instant>,
    /// The confirmation of the link by the other side.
    linked: bool,
    info: Option<RoomInfo>,
    /// The call is up, or is being made.
    calling: bool,
    /// The person does not want to call again by themselves.
    hung_up: bool,
    /// Somebody calls.
    incoming: bool,
    muted: bool,
    held: bool,
    shown: Vec<Person>,
    shown_mute: Vec<&'static str>,
    messages: u64,
    /// Which sides were there once.
    known: BTreeSet<Side>,
    ended: Option<Exit>,
}

impl Session {
    /// Begins; `events` is what the person does, and all that happens.
    pub(crate) fn new(
        plan: Plan,
        saved: Saved,
        path: PathBuf,
        view: View,
        sender: mpsc::Sender<Event>,
    ) -> anyhow::Result<Self> {
        let mut seed = [0; 32];
        OsRng.try_fill_bytes(&mut seed).context("the system has no randomness")?;
        let memory = saved.memory();
        let muted = plan.muted;
        Ok(Self {
            connections: Connections::new(plan.policy, seed),
            plan,
            saved,
            path,
            view,
            memory,
            chat: None,
            voice: None,
            sender,
            people: None,
            inside: false,
            been_inside: false,
            again: None,
            linked: false,
            info: None,
            calling: false,
            hung_up: false,
            incoming: false,
            muted,
            held: false,
            shown: vec![],
            shown_mute: vec![],
            messages: 0,
            known: BTreeSet::new(),
            ended: None,
        })
    }

    /// Runs until the person, the time or a fault ends it.
    pub(crate) async fn run(mut self, events: &mut mpsc::Receiver<Event>) -> anyhow::Result<Exit> {
        let steps = self.connections.start();
        self.take(steps)?;
        let started = clock();
        let mut frames = interval(Duration::from_millis(200));
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let stop = tokio::signal::ctrl_c();
        tokio::pin!(stop);
        while self.ended.is_none() {
            let wake = self.connections.poll_timeout();
            let end = self.plan.lasts.map(|lasts| started + lasts);
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle(event).await?,
                    None => break,
                },
                () = sleep_until(wake.unwrap_or(started).into()), if wake.is_some() => {
                    let steps = self.connections.handle_timeout(clock());
                    self.take(steps)?;
                }
                () = sleep_until(end.unwrap_or(started).into()), if end.is_some() => {
                    self.ended = Some(Exit::Fine);
                }
                () = sleep_until(self.again.unwrap_or(started).into()), if self.again.is_some() => {
                    self.again = None;
                    self.enter().await;
                }
                _ = frames.tick() => {}
                _ = &mut stop => self.ended = Some(Exit::Fine),
            }
            self.show();
            if self.view.is_gone() {
                self.ended = Some(Exit::Fine);
            }
        }
        self.leave().await;
        Ok(self.ended.unwrap_or(Exit::Fine))
    }

    async fn leave(&mut self) {
        if let (Some(chat), Some(room)) = (&self.chat, &self.plan.room) {
            chat.send(room::leave(&room.jid, &room.nick)).await;
        }
        if let Some(voice) = self.voice.take() {
            voice.stop().await;
        }
        self.chat = None;
    }

    /// Does what the connections ask for.
    fn take(&mut self, steps: Vec<Step>) -> anyhow::Result<()> {
        for step in steps {
            match step {
                Step::Connect(side) => self.connect(side)?,
                Step::Disconnect(Side::Chat) => {
                    self.chat = None;
                    self.tell_state(Side::Chat, false, "ended, since voice is gone".to_owned());
                    self.outside();
                }
                Step::Disconnect(Side::Voice) => {
                    self.voice = None;
                    self.tell_state(Side::Voice, false, "ended, since chat is gone".to_owned());
                    self.silent();
                }
                Step::Warn(side, _) => {
                    let rest = match self.connections.state(side.other()) {
                        State::Up => format!("; {} goes on", side.other().title().to_lowercase()),
                        State::Off
                        | State::Held
                        | State::Connecting
                        | State::Waiting { .. }
                        | State::Stopped(_) => String::new(),
                    };
                    let text = format!("{} is gone{rest}", side.title());
                    self.view.tell(&News::Warning(text));
                }
                Step::Restored(side) => {
                    self.view.tell(&News::Warning(format!("{} is back", side.title())));
                }
            }
        }
        Ok(())
    }

    /// Ends the session if what is gone is what it is about: for good, or never there.
    fn give_up(&mut self, side: Side, fault: Fault) {
        let needed = match side {
            Side::Chat => self.plan.room.is_some(),
            Side::Voice => self.plan.room.is_none(),
        };
        if needed && (fault.needs_person() || !self.known.contains(&side)) {
            self.ended = Some(match fault {
                Fault::WrongPassword => Exit::Password,
                Fault::NotTrusted | Fault::Refused | Fault::Replaced => Exit::Refused,
                Fault::Unreachable => Exit::Unreachable,
            });
        }
    }

    fn connect(&self, side: Side) -> anyhow::Result<()> {
        let sender = self.sender.clone();
        let before = self.memory.known(side);
        let missing = format!("the account has no {} part", side.title().to_lowercase());
        match side {
            Side::Chat => {
                let account = self.saved.chat()?.context(missing)?;
                tokio::spawn(async move {
                    let chat = Chat::connect(&account, before, sender.clone()).await.map(ChatBox);
                    drop(sender.send(Event::ChatUp(chat)).await);
                });
            }
            Side::Voice => {
                let account = self.saved.voice()?.context(missing)?;
                tokio::spawn(async move {
                    let voice = Voice::connect(&account, before, sender.clone()).await;
                    drop(sender.send(Event::VoiceUp(voice.map(VoiceBox))).await);
                });
            }
        }
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::ChatUp(Ok(ChatBox(chat))) => {
                let how = format!("{} as {}", protected(chat.protection()), chat.jid());
                self.up(Side::Chat, chat.protection(), how)?;
                self.chat = Some(chat);
                let steps = self.connections.handle_up(clock(), Side::Chat);
                self.take(steps)?;
                self.enter().await;
            }
            Event::VoiceUp(Ok(VoiceBox(voice))) => {
                let how = protected(voice.protection());
                self.up(Side::Voice, voice.protection(), how)?;
                self.voice = Some(voice);
                let steps = self.connections.handle_up(clock(), Side::Voice);
                self.take(steps)?;
                self.call().await?;
            }
            Event::ChatUp(Err(lost)) | Event::Chat(chat::Event::Lost(lost)) => {
                self.chat = None;
                self.outside();
                self.lost(Side::Chat, &lost, None)?;
            }
            Event::VoiceUp(Err((lost, after)))
            | Event::Voice(voice::Event::Lost { why: lost, after }) => {
                self.voice = None;
                self.silent();
                self.lost(Side::Voice, &lost, after)?;
            }
            Event::Chat(chat::Event::Stanza(stanza)) => self.stanza(&stanza).await?,
            Event::Voice(event) => self.voice_event(event).await?,
            Event::Wish(wish) => self.wish(wish).await?,
            Event::Key(key) => {
                if let Some(wish) = self.view.key(key) {
                    self.wish(wish).await?;
                }
            }
        }
        Ok(())
    }

    /// A connection is there: it is remembered how well it is protected, and whether both are alike.
    fn up(
        &mut self,
        side: Side,
        protection: security::Protection,
        how: String,
    ) -> anyhow::Result<()> {
        self.known.insert(side);
        self.memory.check(side, protection);
        if self.saved.remember(&self.memory) {
            self.saved.save(&self.path)?;
        }
        self.tell_state(side, true, how);
        if let (Some(chat), Some(voice)) =
            (self.memory.known(Side::Chat), self.memory.known(Side::Voice))
            && self.connections.state(side.other()) == State::Up
        {
            for mismatch in security::compare(chat, voice) {
                let weaker = mismatch.weaker.title().to_lowercase();
                let what = match mismatch.lacks {
                    Lacks::Encryption => "is not encrypted, and the other half is",
                    Lacks::Proof => "does not prove who the server is, and the other half does",
                    Lacks::Version => "has an older version of TLS than the other half",
                    Lacks::Login => "logs in by a weaker method than the other half",
                };
                let mend = match mismatch.mend {
                    Mend::RequireTls | Mend::RequireProof => "`cusax login` can ask for TLS",
                    Mend::RequireTls13 | Mend::RequireLogin => "its provider can mend that",
                };
                let text = format!("{weaker} {what}; {mend}");
                self.view.tell(&News::Warning(text));
            }
        }
        Ok(())
    }

    fn lost(&mut self, side: Side, lost: &Lost, after: Option<Duration>) -> anyhow::Result<()> {
        self.tell_state(side, false, lost.to_string());
        self.give_up(side, lost.fault());
        let steps = self.connections.handle_lost(clock(), side, lost.fault(), after);
        self.take(steps)
    }

    fn tell_state(&mut self, side: Side, up: bool, how: String) {
        self.view.tell(&News::Connection { side: side.title(), up, how });
    }

    /// We are not in the room any more.
    fn outside(&mut self) {
        self.inside = false;
        if let Some(people) = &mut self.people {
            people.leave_room();
        }
    }

    /// We are not on the call any more.
    fn silent(&mut self) {
        self.calling = false;
        self.incoming = false;
        self.held = false;
        if let Some(people) = &mut self.people {
            people.handle_conference(None);
        }
    }

    /// Asks what the room is, and then enters it.
    async fn enter(&self) {
        let (Some(chat), Some(room)) = (&self.chat, &self.plan.room) else { return };
        let presence: Element = Element::bare("presence", "jabber:client");
        chat.send(presence).await;
        chat.send(room::info(&Jid::from(room.jid.clone()), INFO)).await;
    }

    async fn stanza(&mut self, stanza: &Element) -> anyhow::Result<()> {
        let Some(room) = self.plan.room.clone() else { return Ok(()) };
        let from = stanza.attr("from").and_then(|from| Jid::new(from).ok());
        let Some(from) = from.filter(|from| from.to_bare() == room.jid) else { return Ok(()) };
        let nick = from.resource().map(ToString::to_string);
        match stanza.name() {
            "iq" if stanza.attr("id") == Some(INFO) => self.learn(stanza, &room).await?,
            "iq" => {
                if let Some(why) = room::error(stanza) {
                    self.view.tell(&News::Warning(format!("the room refuses: {why}")));
                }
            }
            "presence" => {
                if let Some(why) = room::error(stanza)
                    && !self.inside
                {
                    self.view
                        .tell(&News::Warning(format!("{} does not let you in: {why}", room.jid)));
                    self.ended = Some(Exit::Refused);
                    return Ok(());
                }
                self.presence(stanza);
                if let Some(chat) = self.chat.as_ref().filter(|_| has_status(stanza, "201")) {
                    chat.send(room::open(&room.jid, "open")).await;
                    // The room is another one now: it has a call.
                    chat.send(room::info(&Jid::from(room.jid.clone()), INFO)).await;
                }
            }
            "message" => self.message(stanza, nick),
            _ => {}
        }
        Ok(())
    }

    /// The room says what it is.
    async fn learn(&mut self, answer: &Element, room: &Room) -> anyhow::Result<()> {
        if let Some(why) = room::error(answer)
            && !room.create
        {
            // A server that comes back knows its users before it knows its rooms.
            if self.been_inside {
                self.again = Some(clock() + AGAIN);
                return Ok(());
            }
            let text = format!("there is no room {}: {why} (--create makes it)", room.jid);
            self.view.tell(&News::Warning(text));
            self.ended = Some(Exit::Refused);
            return Ok(());
        }
        // What is not there yet has no call: it is asked again once it is made.
        if answer.attr("type") != Some("error") || self.people.is_none() {
            let info = RoomInfo::read(answer);
            let own = self.saved.account.sip.as_ref().map(|sip| sip.aor.clone());
            let mut people = People::new(room.jid.clone(), info.clone(), self.linked, own);
            people.set_own_mute(self.muted);
            self.people = Some(people);
            self.info = (answer.attr("type") != Some("error")).then_some(info);
        }
        // Entering again has the room show everybody anew.
        if let Some(chat) = &self.chat {
            let join = room::join(&room.jid, &room.nick, room.password.as_deref(), HISTORY);
            chat.send(join).await;
        }
        self.call().await
    }

    fn presence(&mut self, stanza: &Element) {
        let Some(people) = &mut self.people else { return };
        people.handle_presence(stanza);
        let own = has_status(stanza, "110");
        if own && stanza.attr("type").is_none() {
            (self.inside, self.been_inside) = (true, true);
        } else if own && self.inside && stanza.attr("type") == Some("unavailable") {
            self.inside = false;
            let has = |code: &str| has_status(stanza, code);
            let how = if has("307") {
                "you were thrown out"
            } else if has("301") {
                "you were banned"
            } else if has("303") {
                self.inside = true;
                return;
            } else {
                "the room is closed to you"
            };
            self.view.tell(&News::Warning(how.to_owned()));
            self.ended = Some(Exit::Refused);
        }
    }

    fn message(&mut self, stanza: &Element, nick: Option<String>) {
        if let Some(why) = room::error(stanza) {
            return self.view.tell(&News::Warning(format!("not said: {why}")));
        }
        let text = |name: &str| stanza.get_child(name, "jabber:client").map(Element::text);
        if let Some(subject) = text("subject").filter(|subject| !subject.is_empty()) {
            self.view.tell(&News::Subject(subject));
        }
        if let Some(text) = text("body").filter(|text| !text.is_empty()) {
            let from = nick.unwrap_or_else(|| "the room".to_owned());
            self.view.tell(&News::Said { from, text });
        }
    }

    /// Calls what is to be called, if everything is there for it.
    async fn call(&mut self) -> anyhow::Result<()> {
        if self.calling || self.hung_up {
            return Ok(());
        }
        let to = match (&self.plan.room, &self.plan.call) {
            (None, Some(to)) => to.clone(),
            (Some(room), None) if room.call => {
                let room = room.clone();
                let Some(info) = &self.info else { return Ok(()) };
                let Some(to) = info.conference.clone() else {
                    self.hung_up = true;
                    self.view.tell(&News::Warning("the room has no call".to_owned()));
                    return Ok(());
                };
                let related = self.related();
                let asked = Confirmation::NotAsked;
                let offer = link::offer(&Way::ToConference, &to, &room.jid, &asked, &related);
                // Joining both was the person's act; what does not fit is still shown.
                for hint in offer.hints {
                    let text = match hint {
                        Hint::OtherDomain => "the call is at another domain than the room",
                        Hint::OtherName => "the call has another name than the room",
                        Hint::NotConfirmed => "the call names no room",
                        Hint::Contradicted => "the call names another room",
                    };
                    self.view.tell(&News::Warning(text.to_owned()));
                }
                to
            }
            (Some(_) | None, None) | (Some(_), Some(_)) => return Ok(()),
        };
        let Some(voice) = &mut self.voice else { return Ok(()) };
        let device = Files::open(self.plan.play.as_deref(), self.plan.record.as_deref())?;
        self.view.tell(&News::Address(to.to_string()));
        self.calling = true;
        voice.call(to, device).await;
        voice.mute(self.muted).await;
        Ok(())
    }

    /// What provisioning says belongs together.
    fn related(&self) -> Related {
        let account = &self.saved.account;
        if !account.related {
            return Related::default();
        }
        let conference = account.conference.iter();
        let rooms = conference.flat_map(|it| [it.xmpp_domain.clone(), it.sip_domain.clone()]);
        let xmpp = account.xmpp.iter().map(|xmpp| xmpp.jid.domain().to_string());
        let sip = account.sip.iter().map(|sip| sip.aor.host().to_owned());
        let domains: Vec<String> = rooms.chain(xmpp).chain(sip).collect();
        Related::default().with(domains.iter().map(String::as_str))
    }

    async fn voice_event(&mut self, event: voice::Event) -> anyhow::Result<()> {
        let call = |state, more: &str| News::Call { state, more: more.to_owned() };
        match event {
            voice::Event::Incoming(headers) => {
                self.incoming = true;
                let from = Caller::read(&headers, &Trust::default());
                let who = from.claimed.map(|uri| uri.to_string());
                // Nobody vouches for it: it is shown as what it is, an address that somebody claims.
                let who = who.unwrap_or_else(|| "nobody who says who they are".to_owned());
                self.view.tell(&call("comes", &format!("{who} (not confirmed)")));
                if self.plan.answer {
                    self.answer().await?;
                }
            }
            voice::Event::Ringing => self.view.tell(&call("rings", "")),
            voice::Event::Connected { conference, encrypted } => {
                self.calling = true;
                let what = if conference { "a conference" } else { "" };
                let privacy = if encrypted { "encrypted" } else { "" };
                let more = [what, privacy].into_iter().filter(|word| !word.is_empty());
                self.view.tell(&call("up", &more.collect::<Vec<_>>().join(", ")));
                if let Some(voice) = &self.voice {
                    voice.mute(self.muted).await;
                }
            }
            voice::Event::Held(held) => {
                self.held = held;
                self.view.tell(&call(if held { "on hold" } else { "off hold" }, ""));
            }
            voice::Event::Conference(known) => {
                if let (Some(conference), Some(room)) = (&known, &self.plan.room) {
                    let said = Confirmation::by_conference(&conference.description, &room.jid);
                    self.linked = said == Confirmation::Mutual;
                    if said == Confirmation::Another && !room.anyway {
                        let text = "the call says that it belongs to another room: hung up (--anyway stays)";
                        self.view.tell(&News::Warning(text.to_owned()));
                        self.hung_up = true;
                        if let Some(voice) = &self.voice {
                            voice.hang_up().await;
                        }
                    }
                }
                if let Some(people) = &mut self.people {
                    people.set_linked(self.linked);
                    people.handle_conference(known.as_deref());
                } else if let Some(conference) = known {
                    self.only_conference(&conference);
                }
            }
            voice::Event::Ended(why) => {
                self.silent();
                let (more, exit) = match why {
                    Why::Oneself => ("you hung up".to_owned(), Exit::Fine),
                    Why::TheOther(said) => {
                        (said.unwrap_or_else(|| "the other side hung up".to_owned()), Exit::Fine)
                    }
                    Why::Refused { status: status @ (404 | 410 | 484 | 604), reason } => {
                        (format!("there is nobody there ({status} {reason})"), Exit::Refused)
                    }
                    Why::Refused { status: 401 | 407, .. } => {
                        ("the password is wrong".to_owned(), Exit::Password)
                    }
                    Why::Refused { status: status @ (408 | 503), reason } => {
                        (format!("no way there ({status} {reason})"), Exit::Unreachable)
                    }
                    Why::Refused { status, reason } => {
                        (format!("refused ({status} {reason})"), Exit::Refused)
                    }
                    Why::NoMedia => ("nothing to speak in common".to_owned(), Exit::Refused),
                    Why::Lost => ("the connection is lost".to_owned(), Exit::Unreachable),
                };
                self.hung_up = exit != Exit::Unreachable;
                self.view.tell(&News::Call { state: "ended", more });
                if self.plan.room.is_none() && self.plan.call.is_some() && self.ended.is_none() {
                    self.ended = Some(exit);
                }
            }
            voice::Event::Lost { .. } => {}
        }
        Ok(())
    }

    /// A conference without a room: who is in it, as it says.
    fn only_conference(&mut self, conference: &cusax::conference::Conference) {
        // A list without a room has no occupants.
        let nowhere = BareJid::new("nowhere.invalid").ok();
        if let Some(nowhere) = nowhere {
            let own = self.saved.account.sip.as_ref().map(|sip| sip.aor.clone());
            let mut people = People::new(nowhere, RoomInfo::default(), false, own);
            people.set_own_mute(self.muted);
            people.handle_conference(Some(conference));
            self.people = Some(people);
        }
    }

    async fn answer(&mut self) -> anyhow::Result<()> {
        let device = Files::open(self.plan.play.as_deref(), self.plan.record.as_deref())?;
        if let Some(voice) = &mut self.voice
            && std::mem::take(&mut self.incoming)
        {
            voice.answer(device).await;
            self.calling = true;
        }
        Ok(())
    }

    async fn wish(&mut self, wish: Wish) -> anyhow::Result<()> {
        let warn = |text: &str| News::Warning(text.to_owned());
        match wish {
            Wish::Say(text) => self.say(&text).await,
            Wish::Mute => {
                self.muted = !self.muted;
                if let Some(people) = &mut self.people {
                    people.set_own_mute(self.muted);
                }
                if let Some(voice) = &self.voice {
                    voice.mute(self.muted).await;
                }
            }
            Wish::Hold => {
                if let Some(voice) = &self.voice {
                    voice.hold(!self.held).await;
                }
            }
            Wish::Hand => {
                let visitor = self
                    .people
                    .as_ref()
                    .is_some_and(|people| people.own_mute().contains(&MutedBy::Room));
                match (&self.chat, &self.plan.room) {
                    (Some(chat), Some(room)) if visitor => {
                        chat.send(room::ask_voice(&room.jid)).await;
                        self.view.tell(&warn("you asked to be heard"));
                    }
                    (Some(_), Some(_)) => self.view.tell(&warn("you may speak already")),
                    (Some(_) | None, Some(_) | None) => {
                        self.view.tell(&warn("you are in no room"));
                    }
                }
            }
            Wish::Answer => self.answer().await?,
            Wish::HangUp => {
                self.hung_up = true;
                if let Some(voice) = &self.voice {
                    voice.hang_up().await;
                }
            }
            Wish::Call => {
                self.hung_up = false;
                self.call().await?;
            }
            Wish::People => {
                self.shown.clear();
                self.shown_mute = vec![""];
            }
            Wish::Silence(nick) => self.set_role(&nick, Role::Visitor).await,
            Wish::Voice(nick) => self.set_role(&nick, Role::Participant).await,
            Wish::Kick(nick) => self.set_role(&nick, Role::None).await,
            Wish::Help => self.view.tell(&warn(HELP)),
            Wish::Quit => self.ended = Some(Exit::Fine),
            Wish::Unknown(what) => {
                self.view
                    .tell(&News::Warning(format!("{what} is unknown; /help says what is known")));
            }
        }
        Ok(())
    }

    async fn say(&mut self, text: &str) {
        let (Some(chat), Some(room)) = (&self.chat, &self.plan.room) else {
            return self.view.tell(&News::Warning("not said: chat is not there".to_owned()));
        };
        self.messages += 1;
        chat.send(room::say(&room.jid, &format!("m{}", self.messages), text)).await;
    }

    async fn set_role(&mut self, nick: &str, role: Role) {
        let (Some(chat), Some(room)) = (&self.chat, &self.plan.room) else {
            return self.view.tell(&News::Warning("you are in no room".to_owned()));
        };
        self.messages += 1;
        chat.send(room::set_role(&room.jid, &format!("r{}", self.messages), nick, role, None))
            .await;
    }

    /// Shows what changed.
    fn show(&mut self) {
        let Some(people) = &self.people else {
            if self.view.is_screen() {
                self.view.people(&[], &Default::default(), Meter::default());
            }
            return;
        };
        let (list, muted) = (people.list(), people.own_mute());
        let words = muted_by(&muted);
        // Who is not on the call is not heard for no reason that has to be told.
        if words != self.shown_mute && self.calling {
            self.view.tell(&News::Muted(words.clone()));
            self.shown_mute = words;
        }
        if list != self.shown || self.view.is_screen() {
            let meter = self.voice.as_ref().map(Voice::meter).unwrap_or_default();
            self.view.people(&list, &muted, meter);
            self.shown = list;
        }
    }
}

/// Whether a presence has a status code of XEP-0045 §15.6.
fn has_status(presence: &Element, code: &str) -> bool {
    let x = presence.get_child("x", MUC_USER);
    let mut all = x.into_iter().flat_map(Element::children);
    all.any(|child| child.is("status", MUC_USER) && child.attr("code") == Some(code))
}

/// How a connection is protected, in words.
fn protected(protection: security::Protection) -> String {
    let way = match protection.privacy {
        security::Privacy::Open => "connected, not encrypted",
        security::Privacy::Unproven => "connected to who knows whom",
        security::Privacy::Tls12 => "connected by TLS 1.2",
        security::Privacy::Tls13 => "connected by TLS 1.3",
        security::Privacy::Local => "connected within this machine",
    };
    way.to_owned()
}

/// Now, for the machines below.
#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
fn clock() -> Instant {
    Instant::now()
}

const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// The id of the question what a room is.
const INFO: &str = "info";
/// How much of what was said before is asked for.
const HISTORY: u32 = 20;
/// When a room that is not there yet after a lost connection is asked for again.
const AGAIN: Duration = Duration::from_secs(2);
