//! One room's audio: hear each, sum all, subtract the listener's own voice, say it.
//!
//! At each tick every leg gives 20 ms. Only legs that may be heard are decoded, and of these only what
//! is loud enough is mixed ([`speakers`](super::speakers)). Listeners share one encode; each of the
//! few who speak has their own ([`stream`](super::stream)).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cusax_media::codec::{Codec, CodecError, Decoder};
use cusax_media::leg::{Activity, DropReason, Format, Heard, Leg, LegConfig, LegStats, Received};
use cusax_media::level::SILENCE_DBOV;
use cusax_media::limiter::Limiter;
use cusax_media::quality::{Quality, Recent};
use cusax_media::{FRAME_SAMPLES, MAX_PACKET};

use super::effort::{Effort, STEPS};
use super::plan::{CodecKind, LegPlan, Prompt, Report, Tone, Volume};
use super::prompts::Player;
use super::speakers::{AUDIBLE_DBOV, Speaker, ticks};
use super::stream::{COMFORT_PACE, Class, Group, Stream, settings, silence};
use crate::id::LegId;

/// Who ceased to speak keeps a stream of their own for this long: in a quick exchange nobody changes
/// streams, and before they do, both encoders have heard the same.
pub const OWN_HOLD: Duration = Duration::from_millis(500);
/// How many voices are mixed at once unless told otherwise; of more, the loudest. Each costs an encode.
pub const VOICES: usize = 5;
/// How many may be; and of how many who make a sound the loudest are chosen.
pub const MAX_VOICES: usize = 32;
/// A voice must be this much louder than one that is mixed to take its place, in dB.
pub const VOICE_MARGIN_DB: f32 = 6.0;
/// Voice given or taken fades over this many samples (5 ms), so that it does not click.
pub const FADE_SAMPLES: usize = 240;
/// How often a leg that says of itself that it is silent is listened to nevertheless: voice flags
/// know speech, not music.
pub const PROBE: Duration = Duration::from_secs(1);
/// Who is told something hears the others this much more softly, in dB.
pub const DUCK_DB: f32 = 12.0;
/// Who has not been listened to for so long lends their decoder to others.
pub const DECODER_KEPT: Duration = Duration::from_secs(5);
/// Decoders that wait for the next who speaks; more are let go, one a second.
pub const SPARE_DECODERS: usize = 8;
/// The loss that a peer reported last counts for this much of itself a second later.
const LOSS_MEMORY: f64 = 0.9;

/// One room.
#[derive(Debug)]
pub struct Mix {
    legs: BTreeMap<LegId, Box<Member>>,
    classes: BTreeMap<Group, Class>,
    /// Decoders that no leg needs at the moment.
    decoders: Vec<Decoder>,
    /// How many are mixed at once.
    most: usize,
    effort: Effort,
    /// Who is mixed in this tick: the first `mixed` of these.
    voices: Vec<Voice>,
    mixed: usize,
    /// Voices by loudness.
    ranks: Vec<(f32, LegId)>,
    /// The sum of them, limited.
    full: Box<[f32; FRAME_SAMPLES]>,
    /// The sum of them, as it is.
    sum: Box<[f32; FRAME_SAMPLES]>,
    /// `full`, one tick ago, and the limiter as it then was; `past_sounds` if it was not silence.
    past: Box<[f32; FRAME_SAMPLES]>,
    past_limiter: Limiter,
    past_sounds: bool,
    limiter: Limiter,
    /// What everyone is played, and whether it sounds in this tick.
    chime: Player,
    chiming: bool,
    scratch: Box<[f32; FRAME_SAMPLES]>,
    tick: u32,
    tally: Tally,
    /// The next tick panics: what the worker must contain.
    #[cfg(test)]
    pub(crate) faulty: bool,
}

/// One leg in the room.
#[derive(Debug)]
struct Member {
    leg: Leg,
    plan: Box<LegPlan>,
    group: Group,
    /// How loud they are heard.
    speaks: Volume,
    /// What is said to them alone.
    player: Player,
    /// What the mix without them was multiplied by at the end of the last tick.
    level: f32,
    /// Whether what they send belongs in the mix.
    heard: bool,
    /// When that was asked for, until it has been reported.
    asked: Option<Instant>,
    /// What their voice was multiplied by at the end of the last tick: 0 or 1.
    gain: f32,
    /// Ticks since they were listened to.
    unheard: u32,
    speaker: Speaker,
    /// Which of the voices of this tick is theirs.
    voice: Option<usize>,
    /// Ticks for which they still need a stream without themselves.
    own_hold: u32,
    feed: Feed,
    /// The loss that they report, smoothed: the worst of late.
    loss: f64,
    /// How what they send came of late.
    recent: Recent,
    opened: Instant,
    /// The SSRC that was reported.
    ssrc: Option<u32>,
    reported_dead: bool,
    counted: LegStats,
}

/// What a leg is sent.
#[derive(Debug)]
enum Feed {
    /// The full mix, by the class's stream.
    Shared,
    /// The mix without them, by a stream of their own.
    Own(Box<Stream>),
    /// Nothing: nobody else makes a sound, or they do not want to hear.
    Silence,
}

/// Someone's part of one tick.
#[derive(Debug)]
struct Voice {
    leg: LegId,
    level_dbov: f32,
    frame: Box<[f32; FRAME_SAMPLES]>,
}

/// One of a leg's two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// RTP, and RTCP where the two are multiplexed.
    Rtp,
    /// RTCP.
    Rtcp,
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// From which leg's port.
    pub leg: LegId,
    /// From which of them.
    pub port: Port,
    /// Whereto.
    pub to: SocketAddr,
    /// What.
    pub bytes: &'a [u8],
}

/// Where what a room does goes to.
pub struct Out<'a> {
    /// Sends a packet.
    pub send: &'a mut dyn FnMut(Packet<'_>),
    /// What the control plane is told.
    pub reports: &'a mut Vec<Report>,
}

/// What a room has done since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames encoded for all who hear the same.
    pub encodes_shared: u64,
    /// Frames encoded for one who speaks.
    pub encodes_own: u64,
    /// Ticks of a leg that were decoded.
    pub decoded: u64,
    /// Ticks of a leg that were not: nobody may hear it, or it says that it is silent.
    pub skipped: u64,
    /// RTP packets taken in.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// RTP packets that the network lost.
    pub lost: u64,
    /// Frames made up.
    pub concealed: u64,
    /// Frames repaired by in-band FEC.
    pub fec: u64,
    /// Packets from strangers.
    pub rejected_source: u64,
    /// Packets refused for another reason: malformed, stale, of an unknown payload type.
    pub rejected_other: u64,
}

/// How loud one leg is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Voicing {
    /// How loud of late, in dBov; −127 is silence.
    pub level_dbov: f32,
    /// Whether they speak.
    pub speaking: bool,
}

/// How one leg does: once a second, its voice more often while somebody looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegHealth {
    /// How loud they are.
    pub voicing: Voicing,
    /// How they sound; `None` while too little came to tell.
    pub quality: Option<Quality>,
    /// What they send; `None` until the leg was first looked at.
    pub codec: Option<CodecKind>,
    /// Whether packets are protected both ways (SRTP).
    pub encrypted: bool,
    /// Whether they may be heard.
    pub heard: bool,
    /// All the rest.
    pub stats: LegStats,
}

impl Default for Voicing {
    fn default() -> Self {
        Self { level_dbov: SILENCE_DBOV, speaking: false }
    }
}

impl std::fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out").field("reports", &self.reports).finish_non_exhaustive()
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self::new(VOICES)
    }
}

impl Mix {
    /// An empty room that mixes `voices` at once, 1 to [`MAX_VOICES`].
    #[must_use]
    pub fn new(voices: usize) -> Self {
        let silence = || Box::new([0.0; FRAME_SAMPLES]);
        Self {
            legs: BTreeMap::new(),
            classes: BTreeMap::new(),
            decoders: vec![],
            most: voices.clamp(1, MAX_VOICES),
            effort: STEPS[0],
            voices: Vec::with_capacity(MAX_VOICES),
            mixed: 0,
            ranks: Vec::with_capacity(MAX_VOICES),
            full: silence(),
            sum: silence(),
            past: silence(),
            past_limiter: Limiter::default(),
            past_sounds: false,
            limiter: Limiter::default(),
            chime: Player::default(),
            chiming: false,
            scratch: silence(),
            tick: 0,
            tally: Tally::default(),
            #[cfg(test)]
            faulty: false,
        }
    }

    /// Takes a leg in. `seed` decides what must be unguessable in its RTP.
    ///
    /// # Errors
    /// This build lacks the codec.
    pub fn open(&mut self, now: Instant, plan: Box<LegPlan>, seed: u64) -> Result<(), CodecError> {
        self.close_quietly(plan.leg);
        let group = Group::new(settings(&plan.codec, 0.0), Volume::default());
        self.join(group)?;
        let mut leg = Leg::new(now, config(&plan), &plan.cname, seed);
        leg.set_ssrc(plan.ssrc);
        let member = Member {
            leg,
            group,
            speaks: Volume::default(),
            player: Player::default(),
            level: 1.0,
            heard: plan.heard,
            asked: None,
            gain: 0.0,
            unheard: u32::MAX,
            speaker: Speaker::default(),
            voice: None,
            own_hold: 0,
            feed: Feed::Silence,
            loss: 0.0,
            recent: Recent::default(),
            opened: now,
            ssrc: None,
            reported_dead: false,
            counted: LegStats::default(),
            plan,
        };
        self.legs.insert(member.plan.leg, Box::new(member));
        Ok(())
    }

    /// Takes over what was negotiated anew.
    ///
    /// # Errors
    /// This build lacks the codec; the leg goes on as it was.
    pub fn change(&mut self, now: Instant, plan: Box<LegPlan>) -> Result<(), CodecError> {
        let Some(member) = self.legs.get(&plan.leg) else { return Ok(()) };
        let group = Group::new(settings(&plan.codec, member.loss), member.group.volume);
        let leg = plan.leg;
        self.reclass(leg, group)?;
        let heard = plan.heard;
        if let Some(member) = self.legs.get_mut(&leg) {
            member.leg.reconfigure(now, config(&plan));
            member.plan = plan;
        }
        self.set_heard(leg, heard);
        Ok(())
    }

    /// Encodes no dearer than this from the next tick on.
    pub fn limit(&mut self, effort: Effort) {
        self.effort = effort;
        for class in self.classes.values_mut() {
            class.limit(effort);
        }
        for member in self.legs.values_mut() {
            if let Feed::Own(stream) = &mut member.feed {
                stream.limit(effort);
            }
        }
    }

    /// Gives a leg voice or takes it, from the next tick on.
    pub fn voice(&mut self, leg: LegId, heard: bool, asked: Instant) {
        self.set_heard(leg, heard);
        if let Some(member) = self.legs.get_mut(&leg) {
            member.asked = Some(asked);
        }
    }

    /// How loud a leg hears the others and is heard, from the next tick on.
    ///
    /// # Errors
    /// No encoder could be made; it hears the others as before.
    pub fn volume(&mut self, leg: LegId, hears: Volume, speaks: Volume) -> Result<(), CodecError> {
        let Some(member) = self.legs.get_mut(&leg) else { return Ok(()) };
        member.speaks = speaks;
        let group = Group::new(member.group.settings, hears);
        self.reclass(leg, group)
    }

    /// Says something to a leg alone, after what is being said to it or, to `interrupt`, in its place.
    pub fn play(&mut self, leg: LegId, prompts: &[Prompt], interrupt: bool) {
        if let Some(member) = self.legs.get_mut(&leg) {
            if interrupt {
                member.player.stop();
            }
            prompts.iter().flat_map(|it| it.clips()).for_each(|clip| member.player.push(clip));
        }
    }

    /// Plays a tone to everyone, unless one is being played.
    pub fn chime(&mut self, tone: Tone) {
        if !self.chime.is_playing() {
            self.chime.push(tone.clip());
        }
    }

    /// Lets a leg go, with RTCP BYE. Returns whether it was here.
    pub fn close(&mut self, now: Instant, leg: LegId, out: &mut Out<'_>) -> bool {
        let Some(member) = self.legs.get_mut(&leg) else { return false };
        if let Some(to) = member.leg.remote_rtcp(now) {
            let mut packet = [0; MAX_PACKET];
            let len = member.leg.bye(now, &mut packet);
            if len > 0 {
                let bytes = &packet[..len];
                (out.send)(Packet { leg, port: member.rtcp_port(), to, bytes });
            }
        }
        if member.speaker.hush().is_some() {
            out.reports.push(Report::Speaking { leg, on: false });
        }
        self.close_quietly(leg);
        true
    }

    /// Takes a packet that came to one of a leg's ports.
    pub fn receive(
        &mut self,
        now: Instant,
        leg: LegId,
        port: Port,
        from: SocketAddr,
        packet: &[u8],
        reports: &mut Vec<Report>,
    ) {
        let Some(member) = self.legs.get_mut(&leg) else { return };
        let received = match port {
            Port::Rtp => member.leg.receive(now, from, packet),
            Port::Rtcp => member.leg.receive_rtcp(now, from, packet),
        };
        match received {
            Received::Audio => self.tally.packets_in += 1,
            Received::Digit(digit) => {
                self.tally.packets_in += 1;
                reports.push(Report::Digit { leg, digit });
            }
            Received::DigitContinues => self.tally.packets_in += 1,
            Received::Rtcp => {}
            Received::Dropped(DropReason::Source) => self.tally.rejected_source += 1,
            Received::Dropped(
                DropReason::TooLong
                | DropReason::Malformed
                | DropReason::PayloadType
                | DropReason::Ssrc
                | DropReason::Duplicate
                | DropReason::Late
                | DropReason::NotAuthentic,
            ) => self.tally.rejected_other += 1,
        }
    }

    /// Plays 20 ms: what everybody sent goes to everybody else.
    pub fn tick(&mut self, now: Instant, out: &mut Out<'_>) {
        #[cfg(test)]
        assert!(!self.faulty, "a fault, as asked for");
        self.hear(now, out.reports);
        self.add_up();
        self.choose_feeds();
        self.say_shared();
        self.send(now, out);
        self.tick = self.tick.wrapping_add(1);
    }

    /// Once a second: how each leg does, who has fallen silent for good, and what loss FEC must face.
    pub fn survey(
        &mut self,
        now: Instant,
        patience: &Patience,
        reports: &mut Vec<Report>,
        mut show: impl FnMut(LegId, LegHealth),
    ) {
        for (leg, member) in &mut self.legs {
            let stats = member.leg.stats();
            self.tally.count(&member.counted, &stats);
            member.counted = stats;
            member.loss = stats.remote_loss.max(member.loss * LOSS_MEMORY);
            member.recent.observe(&stats);
            let ssrc = member.leg.peer_ssrc();
            if let Some(ssrc) = ssrc.filter(|_| ssrc != member.ssrc) {
                member.ssrc = Some(ssrc);
                reports.push(Report::Source { leg: *leg, ssrc });
            }
            let limit = if member.plan.hears { patience.active } else { patience.held };
            let heard = member.leg.last_heard().unwrap_or(member.opened);
            let dead = now.saturating_duration_since(heard) >= limit;
            if dead && !member.reported_dead {
                reports.push(Report::Dead { leg: *leg });
            }
            member.reported_dead = dead;
            show(
                *leg,
                LegHealth {
                    voicing: member.speaker.voicing(),
                    quality: member.recent.quality(),
                    codec: Some(member.plan.codec.kind),
                    encrypted: member.plan.srtp.is_some(),
                    heard: member.heard,
                    stats,
                },
            );
        }
        if self.decoders.len() > SPARE_DECODERS {
            self.decoders.pop();
        }
        self.follow_loss();
    }

    /// How loud each leg is.
    pub fn voicings(&self, mut show: impl FnMut(LegId, Voicing)) {
        for (leg, member) in &self.legs {
            show(*leg, member.speaker.voicing());
        }
    }

    /// What was done since the last time this was asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The legs, by number.
    pub fn legs(&self) -> impl Iterator<Item = LegId> {
        self.legs.keys().copied()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    // --- the tick, step by step --------------------------------------------------------------

    /// Takes 20 ms of every leg, and keeps those that are to be mixed.
    fn hear(&mut self, now: Instant, reports: &mut Vec<Report>) {
        self.mixed = 0;
        for (number, (id, member)) in self.legs.iter_mut().enumerate() {
            // Not all in the same tick.
            let probing =
                (u64::from(self.tick) + number as u64).is_multiple_of(ticks(PROBE).into());
            member.voice = None;
            if let Some(asked) = member.asked.take() {
                let (leg, heard) = (*id, member.heard);
                reports.push(Report::VoiceApplied { leg, heard, asked, at: now });
            }
            let frame = &mut self.scratch;
            let (level, turned) =
                member.hear(now, probing, frame, &mut self.decoders, &mut self.tally);
            if let Some(on) = turned {
                reports.push(Report::Speaking { leg: *id, on });
            }
            let Some(level_dbov) = level else { continue };
            let slot = if self.mixed < MAX_VOICES {
                if self.voices.len() == self.mixed {
                    let frame = Box::new([0.0; FRAME_SAMPLES]);
                    self.voices.push(Voice { leg: *id, level_dbov, frame });
                }
                self.mixed += 1;
                self.mixed - 1
            } else {
                let quietest = self.voices.iter().enumerate();
                let quietest = quietest.min_by(|a, b| a.1.level_dbov.total_cmp(&b.1.level_dbov));
                match quietest {
                    Some((slot, voice)) if voice.level_dbov + VOICE_MARGIN_DB < level_dbov => slot,
                    Some(_) | None => continue,
                }
            };
            let voice = &mut self.voices[slot];
            (voice.leg, voice.level_dbov) = (*id, level_dbov);
            std::mem::swap(&mut voice.frame, frame);
        }
        self.choose_voices();
    }

    /// Of those who make a sound, lets the loudest into the mix. Who comes or goes is faded.
    fn choose_voices(&mut self) {
        let (legs, ranks) = (&mut self.legs, &mut self.ranks);
        ranks.clear();
        ranks.extend(self.voices[..self.mixed].iter().filter_map(|voice| {
            let member = legs.get(&voice.leg).filter(|member| member.speaker.is_audible())?;
            let margin = if member.gain > 0.0 { VOICE_MARGIN_DB } else { 0.0 };
            Some((member.speaker.loudness_dbov() + margin, voice.leg))
        }));
        ranks.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranks.truncate(self.most);
        let mut kept = 0;
        for slot in 0..self.mixed {
            let voice = &mut self.voices[slot];
            let Some(member) = legs.get_mut(&voice.leg) else { continue };
            let chosen = ranks.iter().any(|(_, leg)| *leg == voice.leg);
            let gain = if chosen { 1.0 } else { 0.0 };
            let before = std::mem::replace(&mut member.gain, gain);
            if before == 0.0 && gain == 0.0 {
                continue;
            }
            fade(&mut voice.frame, before, gain);
            member.voice = Some(kept);
            self.voices.swap(slot, kept);
            kept += 1;
        }
        self.mixed = kept;
    }

    fn add_up(&mut self) {
        std::mem::swap(&mut self.past, &mut self.full);
        self.past_limiter.clone_from(&self.limiter);
        self.sum.fill(0.0);
        for voice in &self.voices[..self.mixed] {
            for (sum, sample) in self.sum.iter_mut().zip(voice.frame.iter()) {
                *sum += sample;
            }
        }
        self.chiming = self.chime.play(&mut self.sum);
        self.full.copy_from_slice(&self.sum[..]);
        self.limiter.process(&mut self.full);
    }

    /// Puts everyone on the right stream.
    fn choose_feeds(&mut self) {
        for member in self.legs.values_mut() {
            let Some(class) = self.classes.get_mut(&member.group) else { continue };
            let told = member.player.is_playing();
            // Who is told something hears what nobody else does.
            if member.voice.is_some() || told {
                member.own_hold = ticks(OWN_HOLD);
            } else {
                member.own_hold = member.own_hold.saturating_sub(1);
            }
            let speaks = member.own_hold > 0;
            let others_sound =
                self.mixed > usize::from(member.voice.is_some()) || self.chiming || told;
            let feed = std::mem::replace(&mut member.feed, Feed::Silence);
            member.feed = match feed {
                Feed::Shared if !member.plan.hears => {
                    class.listeners -= 1;
                    Feed::Silence
                }
                Feed::Own(stream) if !member.plan.hears => {
                    class.give_back(stream);
                    Feed::Silence
                }
                Feed::Silence if !member.plan.hears => Feed::Silence,

                Feed::Shared if !speaks => Feed::Shared,
                Feed::Shared => {
                    class.listeners -= 1;
                    let sounds = class.shared.as_ref().is_some_and(|shared| !shared.is_settled());
                    if !sounds && !others_sound {
                        Feed::Silence
                    } else if class.listeners == 0 && class.shared.is_some() {
                        class.shared.take().map_or(Feed::Silence, Feed::Own)
                    } else {
                        let past = sounds.then_some((&*self.past, &self.past_limiter));
                        self.tally.encodes_own += u64::from(past.is_some());
                        class.take(past).map_or(Feed::Silence, Feed::Own)
                    }
                }

                Feed::Own(stream) if speaks && (others_sound || !stream.is_settled()) => {
                    Feed::Own(stream)
                }
                Feed::Own(stream) if speaks => {
                    class.give_back(stream);
                    Feed::Silence
                }
                Feed::Own(stream) => {
                    class.listeners += 1;
                    match &mut class.shared {
                        Some(shared) => {
                            shared.welcome();
                            class.give_back(stream);
                        }
                        None => class.shared = Some(stream),
                    }
                    Feed::Shared
                }

                Feed::Silence if speaks && others_sound => {
                    class.take(None).map_or(Feed::Silence, Feed::Own)
                }
                Feed::Silence if speaks => Feed::Silence,
                Feed::Silence => {
                    class.listeners += 1;
                    match &mut class.shared {
                        Some(shared) => shared.welcome(),
                        None => {
                            let past =
                                self.past_sounds.then_some((&*self.past, &self.past_limiter));
                            self.tally.encodes_shared += u64::from(past.is_some());
                            class.shared = class.take(past);
                        }
                    }
                    Feed::Shared
                }
            };
        }
    }

    /// Encodes the full mix once for each class that has listeners.
    fn say_shared(&mut self) {
        let sounds = self.mixed > 0 || self.chiming;
        for class in self.classes.values_mut() {
            let Some(mut stream) = class.shared.take() else { continue };
            if class.listeners == 0 {
                class.give_back(stream);
                continue;
            }
            if sounds {
                match class.gain() {
                    None => stream.say_limited(&self.full),
                    Some(gain) => {
                        let mix = &mut self.scratch;
                        mix.copy_from_slice(&self.sum[..]);
                        mix.iter_mut().for_each(|sample| *sample *= gain);
                        stream.say(mix);
                    }
                }
                self.tally.encodes_shared += 1;
            } else {
                self.tally.encodes_shared += u64::from(stream.say_nothing());
            }
            class.shared = Some(stream);
        }
        self.past_sounds = sounds;
    }

    /// Encodes for those who speak, and sends to all.
    fn send(&mut self, now: Instant, out: &mut Out<'_>) {
        let mut packet = [0; MAX_PACKET];
        let comfort = self.tick.is_multiple_of(ticks(COMFORT_PACE));
        for (id, member) in &mut self.legs {
            if let Feed::Own(stream) = &mut member.feed {
                let own = member.voice.map(|slot| &self.voices[slot].frame);
                let told = member.player.is_playing();
                if self.mixed > usize::from(own.is_some()) || self.chiming || told {
                    let mix = &mut self.scratch;
                    mix.copy_from_slice(&self.sum[..]);
                    for (mix, own) in mix.iter_mut().zip(own.iter().flat_map(|own| own.iter())) {
                        *mix -= own;
                    }
                    let duck = if told { DUCK_DB } else { 0.0 };
                    let level = 10.0_f32.powf((member.group.volume.db() - duck) / 20.0);
                    fade(mix, std::mem::replace(&mut member.level, level), level);
                    member.player.play(mix);
                    stream.say(mix);
                    self.tally.encodes_own += 1;
                } else {
                    self.tally.encodes_own += u64::from(stream.say_nothing());
                }
            }
            let payload = match &member.feed {
                Feed::Shared => self
                    .classes
                    .get(&member.group)
                    .and_then(|class| class.shared.as_ref())
                    .and_then(|stream| stream.payload()),
                Feed::Own(stream) => stream.payload(),
                Feed::Silence => None,
            };
            let waits = payload.is_none() && member.plan.codec.dtx && !comfort;
            match member.leg.remote(now) {
                Some(to) if member.plan.hears && !waits => {
                    let payload = payload.unwrap_or_else(|| silence(member.group.settings));
                    let samples = FRAME_SAMPLES as u32;
                    let len = member.leg.packetize(now, payload, samples, &mut packet);
                    if len > 0 {
                        let bytes = &packet[..len];
                        (out.send)(Packet { leg: *id, port: Port::Rtp, to, bytes });
                        self.tally.packets_out += 1;
                    }
                }
                Some(_) | None => member.leg.pause(FRAME_SAMPLES as u32),
            }
            if !matches!(member.feed, Feed::Own(_)) {
                member.level = member.group.volume.gain();
                // Who cannot hear it is not told it later.
                member.player.pass();
            }
            if member.leg.poll_timeout() <= now {
                let len = member.leg.handle_timeout(now, &mut packet);
                if let Some(to) = member.leg.remote_rtcp(now).filter(|_| len > 0) {
                    let bytes = &packet[..len];
                    (out.send)(Packet { leg: *id, port: member.rtcp_port(), to, bytes });
                }
            }
        }
    }

    // --- coming, going, changing ---------------------------------------------------------------

    fn set_heard(&mut self, leg: LegId, heard: bool) {
        if let Some(member) = self.legs.get_mut(&leg) {
            member.heard = heard;
        }
    }

    /// Enters a class, which comes to be with its first member.
    fn join(&mut self, group: Group) -> Result<(), CodecError> {
        let class = match self.classes.entry(group) {
            Entry::Occupied(class) => class.into_mut(),
            Entry::Vacant(place) => place.insert(Class::new(group, self.effort)?),
        };
        class.members += 1;
        Ok(())
    }

    /// Leaves a class, which goes with its last member.
    fn leave(&mut self, group: Group, feed: Feed) {
        let Some(class) = self.classes.get_mut(&group) else { return };
        match feed {
            Feed::Shared => class.listeners -= 1,
            Feed::Own(stream) => class.give_back(stream),
            Feed::Silence => {}
        }
        class.members -= 1;
        if class.members == 0 {
            self.classes.remove(&group);
        }
    }

    fn reclass(&mut self, leg: LegId, group: Group) -> Result<(), CodecError> {
        let Some(member) = self.legs.get(&leg) else { return Ok(()) };
        if member.group == group {
            return Ok(());
        }
        self.join(group)?;
        if let Some(member) = self.legs.get_mut(&leg) {
            let feed = std::mem::replace(&mut member.feed, Feed::Silence);
            let old = std::mem::replace(&mut member.group, group);
            self.leave(old, feed);
        }
        Ok(())
    }

    /// Moves legs whose loss has changed to where FEC is prepared for it.
    fn follow_loss(&mut self) {
        let moved: Vec<_> = self
            .legs
            .iter()
            .map(|(leg, member)| {
                let settings = settings(&member.plan.codec, member.loss);
                (*leg, member.group, Group::new(settings, member.group.volume))
            })
            .filter(|(_, is, wanted)| is != wanted)
            .collect();
        for (leg, _, wanted) in moved {
            // The codec is the one they have: nothing to refuse.
            let _ = self.reclass(leg, wanted);
        }
    }

    fn close_quietly(&mut self, leg: LegId) {
        if let Some(member) = self.legs.remove(&leg) {
            self.tally.count(&member.counted, &member.leg.stats());
            self.leave(member.group, member.feed);
        }
    }
}

impl Member {
    /// Takes 20 ms into `frame`. Gives the level if it may have to be mixed, and whether they began to
    /// speak or ceased to.
    fn hear(
        &mut self,
        now: Instant,
        probing: bool,
        frame: &mut [f32; FRAME_SAMPLES],
        decoders: &mut Vec<Decoder>,
        tally: &mut Tally,
    ) -> (Option<f32>, Option<bool>) {
        if self.gain == 0.0 && (!self.heard || self.says_silent(probing)) {
            tally.skipped += 1;
            self.leg.tick_skip(now);
            self.unheard = self.unheard.saturating_add(1);
            if self.unheard >= ticks(DECODER_KEPT) {
                decoders.extend(self.leg.spare_decoder());
            }
            return (
                None,
                if self.heard { self.speaker.hear(NOTHING) } else { self.speaker.hush() },
            );
        }
        tally.decoded += 1;
        if let Some(codec) = self.leg.lacks_decoder()
            && let Some(spare) = decoders.iter().rposition(|spare| spare.codec() == codec)
        {
            self.leg.lend_decoder(decoders.swap_remove(spare));
        }
        let heard = self.leg.tick(now, frame);
        let turned = if self.heard { self.speaker.hear(heard) } else { self.speaker.hush() };
        let audible = self.speaker.is_audible();
        // Who was only probed and says nothing has not been listened to.
        if audible || self.gain > 0.0 || !probing {
            self.unheard = 0;
        }
        if !heard.sound || !audible && self.gain == 0.0 {
            self.gain = if audible { self.gain } else { 0.0 };
            return (None, turned);
        }
        let boost = self.speaks.gain();
        fade(frame, boost, boost);
        (Some(heard.level_dbov + self.speaks.db()), turned)
    }

    /// Whether the leg's own word lets us not listen to it.
    fn says_silent(&self, probing: bool) -> bool {
        match self.leg.upcoming() {
            Activity::Silent => true,
            Activity::Told { level_dbov: Some(level), .. } => f32::from(level) < AUDIBLE_DBOV,
            Activity::Told { voice, level_dbov: None } => !voice && !probing,
            Activity::Unknown => false,
        }
    }

    fn rtcp_port(&self) -> Port {
        if self.plan.mux { Port::Rtp } else { Port::Rtcp }
    }
}

/// Multiplies a frame, from what its last one was multiplied by to another factor.
fn fade(frame: &mut [f32; FRAME_SAMPLES], from: f32, to: f32) {
    if (from, to) == (1.0, 1.0) {
        return;
    }
    for (i, sample) in frame.iter_mut().enumerate() {
        let way = (i + 1).min(FADE_SAMPLES) as f32 / FADE_SAMPLES as f32;
        *sample *= from + (to - from) * way;
    }
}

impl Tally {
    /// Adds what a leg counted between two looks at it.
    fn count(&mut self, before: &LegStats, after: &LegStats) {
        let since = |count: fn(&LegStats) -> u64| count(after).saturating_sub(count(before));
        self.lost += since(|stats| stats.lost);
        self.concealed += since(|stats| stats.jitter.concealed);
        self.fec += since(|stats| stats.jitter.fec);
    }
}

/// For how long a leg may be without a sign of life, RTP or RTCP, before it is reported dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// While its side wants to hear us.
    pub active: Duration,
    /// While it is on hold, or sends without wanting to hear.
    pub held: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { active: Duration::from_secs(60), held: Duration::from_secs(30 * 60) }
    }
}

/// What a leg brings that brings nothing.
const NOTHING: Heard = Heard { sound: false, level_dbov: -127.0, voice: false };

/// A plan in the words of the media crate.
fn config(plan: &LegPlan) -> LegConfig {
    let codec = match plan.codec.kind {
        CodecKind::Opus => Codec::Opus,
        CodecKind::Pcmu => Codec::Pcmu,
        CodecKind::Pcma => Codec::Pcma,
    };
    LegConfig {
        receive: vec![Format { payload_type: plan.codec.receive_pt, codec }],
        events: plan.dtmf.iter().map(|(payload_type, _)| *payload_type).collect(),
        send: Format { payload_type: plan.codec.send_pt, codec },
        level_extension: plan.level_ext,
        rtcp_mux: plan.mux,
        remote: plan.remote,
        remote_rtcp: plan.remote_rtcp,
        signalling: Some(plan.signalled_from),
        srtp: plan.srtp.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    #[cfg(feature = "io")]
    use cusax_media::codec::{Encoder, EncoderSettings};
    use proptest::prelude::*;
    #[cfg(feature = "io")]
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::clock::Now;
    use crate::id::RoomName;
    use crate::mixer::plan::CodecPlan;

    /// Anything that can happen to a room.
    #[derive(Clone, Debug)]
    enum Event {
        Open(u64, Terms),
        Change(u64, Terms),
        Voice(u64, bool),
        Volume(u64, bool),
        Play(u64, bool),
        Chime,
        Close(u64),
        Speak(u64, f32),
        Garbage(u64, Vec<u8>),
        Tick(usize),
        Survey,
    }

    /// What two sides agreed on.
    #[derive(Clone, Debug)]
    struct Terms {
        kind: CodecKind,
        max_bitrate: Option<u32>,
        dtx: bool,
        hears: bool,
        heard: bool,
    }

    fn payload_type(kind: CodecKind) -> u8 {
        match kind {
            CodecKind::Opus => 96,
            CodecKind::Pcmu => 0,
            CodecKind::Pcma => 8,
        }
    }

    fn plan(leg: u64, terms: &Terms) -> Box<LegPlan> {
        let remote = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_000 + leg as u16);
        let payload_type = payload_type(terms.kind);
        Box::new(LegPlan {
            leg: LegId(leg),
            room: RoomName::new("any").unwrap(),
            local: remote.ip(),
            port: 40_000,
            remote: Some(remote),
            remote_rtcp: None,
            signalled_from: remote.ip(),
            mux: true,
            codec: CodecPlan {
                kind: terms.kind,
                send_pt: payload_type,
                receive_pt: payload_type,
                max_bitrate: terms.max_bitrate,
                fec: true,
                dtx: terms.dtx,
            },
            dtmf: vec![(101, 8_000)],
            level_ext: None,
            ssrc: leg as u32,
            cname: "mixer".to_owned(),
            srtp: None,
            hears: terms.hears,
            heard: terms.heard,
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        let leg = 0..5u64;
        let kind = prop_oneof![
            #[cfg(feature = "io")]
            Just(CodecKind::Opus),
            Just(CodecKind::Pcmu),
            Just(CodecKind::Pcma)
        ];
        let bitrate = prop_oneof![Just(None), (6_000..64_000u32).prop_map(Some)];
        let terms = (kind, bitrate, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(kind, max_bitrate, dtx, hears, heard)| Terms { kind, max_bitrate, dtx, hears, heard },
        );
        prop_oneof![
            2 => (leg.clone(), terms.clone()).prop_map(|(leg, terms)| Event::Open(leg, terms)),
            2 => (leg.clone(), terms).prop_map(|(leg, terms)| Event::Change(leg, terms)),
            2 => (leg.clone(), any::<bool>()).prop_map(|(leg, heard)| Event::Voice(leg, heard)),
            1 => (leg.clone(), any::<bool>()).prop_map(|(leg, up)| Event::Volume(leg, up)),
            2 => (leg.clone(), any::<bool>()).prop_map(|(leg, at_once)| Event::Play(leg, at_once)),
            1 => Just(Event::Chime),
            1 => leg.clone().prop_map(Event::Close),
            6 => (leg.clone(), 0.0..1.0f32).prop_map(|(leg, loud)| Event::Speak(leg, loud)),
            1 => (leg, proptest::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(leg, bytes)| Event::Garbage(leg, bytes)),
            6 => (1..40usize).prop_map(Event::Tick),
            1 => Just(Event::Survey),
        ]
    }

    /// Ticks, while some send PCMU or PCMA of a loudness; every leg that hears is sent one packet.
    fn tick(mix: &mut Mix, now: &mut Instant, loud: &BTreeMap<u64, f32>, sequence: &mut u16) {
        let mut reports = vec![];
        *now += cusax_media::TICK;
        *sequence = sequence.wrapping_add(1);
        for (leg, loud) in loud {
            let Some(member) = mix.legs.get(&LegId(*leg)) else { continue };
            let kind = member.plan.codec.kind;
            let from = member.plan.remote.unwrap();
            let mut packet = vec![0x80, payload_type(kind)];
            packet.extend(sequence.to_be_bytes());
            packet.extend((u32::from(*sequence) * 160).to_be_bytes());
            packet.extend((*leg as u32 + 100).to_be_bytes());
            let byte = |n: usize| if n % 20 < 10 { 0x80 } else { 0x00 } | (*loud * 127.0) as u8;
            packet.extend((0..160).map(byte));
            mix.receive(*now, LegId(*leg), Port::Rtp, from, &packet, &mut reports);
        }
        let mut sent = BTreeMap::new();
        let mut send = |packet: Packet<'_>| {
            // Not RTCP (RFC 5761 §4).
            if !(192..224).contains(&packet.bytes[1]) {
                *sent.entry(packet.leg).or_insert(0) += 1;
            }
        };
        mix.tick(*now, &mut Out { send: &mut send, reports: &mut reports });
        for (leg, member) in &mix.legs {
            let packets = sent.get(leg).copied().unwrap_or(0);
            let reachable = member.leg.remote(*now).is_some();
            match member.plan.hears && reachable {
                true if !member.plan.codec.dtx => assert_eq!(packets, 1, "{leg}"),
                true => assert!(packets <= 1, "{leg}"),
                false => assert_eq!(packets, 0, "{leg} does not want to hear"),
            }
            if !member.heard {
                assert_eq!(member.gain, 0.0, "{leg} is muted");
            }
        }
    }

    fn check_books(mix: &Mix) {
        for (group, class) in &mix.classes {
            let members = || mix.legs.values().filter(|member| member.group == *group);
            assert_eq!(class.members, members().count());
            let listeners = members().filter(|member| matches!(member.feed, Feed::Shared)).count();
            assert_eq!(class.listeners, listeners);
            assert!(class.members > 0);
        }
        let classes = mix.legs.values().filter(|m| mix.classes.contains_key(&m.group)).count();
        assert_eq!(classes, mix.legs.len());
    }

    #[cfg(feature = "io")]
    #[test]
    fn fec_follows_the_loss_that_the_peer_reports_and_forgets_it_slowly() {
        let (mut mix, mut now, mut reports) = (Mix::default(), Now::read().instant, vec![]);
        let (kind, max_bitrate) = (CodecKind::Opus, None);
        let terms = Terms { kind, max_bitrate, dtx: false, hears: true, heard: true };
        for leg in [1, 2] {
            mix.open(now, plan(leg, &terms), leg).unwrap();
        }
        let loss_percent = |mix: &Mix, leg: u64| match mix.legs[&LegId(leg)].group.settings {
            EncoderSettings::Opus(settings) => settings.loss_percent,
            EncoderSettings::Pcmu | EncoderSettings::Pcma => 0,
        };
        let mut seen = vec![];
        for (second, lost) in [0u8, 25, 51, 0].into_iter().chain([0; 26]).enumerate() {
            // A receiver report (RFC 3550 §6.4.2) of `lost` 256ths, with a CNAME.
            let mut packet = vec![0x81, 201, 0, 7, 0, 0, 0, 99, 0, 0, 0, 1, lost];
            packet.extend([0; 19]);
            packet.extend([0x81, 202, 0, 2, 0, 0, 0, 99, 1, 1, b'p', 0]);
            let from = plan(1, &terms).remote.unwrap();
            for _ in 0..5 {
                mix.receive(now, LegId(1), Port::Rtp, from, &packet, &mut reports);
            }
            now += Duration::from_secs(1);
            mix.survey(now, &Patience::default(), &mut reports, |_, _| {});
            check_books(&mix);
            let percent = loss_percent(&mix, 1);
            if seen.last().is_none_or(|(_, last)| *last != percent) {
                seen.push((second, percent));
            }
            assert_eq!(loss_percent(&mix, 2), 0, "the other has no loss");
        }
        assert_eq!(seen, [(0, 0), (1, 10), (2, 20), (9, 10)]);
    }

    #[cfg(feature = "io")]
    #[test]
    fn who_is_silent_keeps_no_decoder() {
        let (mut mix, mut now, mut reports) = (Mix::default(), Now::read().instant, vec![]);
        let (kind, max_bitrate) = (CodecKind::Opus, None);
        let terms = Terms { kind, max_bitrate, dtx: false, hears: true, heard: true };
        for leg in 0..40 {
            mix.open(now, plan(leg, &terms), leg).unwrap();
        }
        // SILK of a voice for leg 0, and of a quiet room for all others: told apart by the voice flag.
        let mut encoders: Vec<_> = [0.3, 0.000_3]
            .into_iter()
            .map(|loud: f32| (loud, Encoder::new(settings(&mix.legs[&LegId(0)].plan.codec, 0.0))))
            .collect();
        let mut random = StdRng::seed_from_u64(1);
        for tick in 0..500u16 {
            now += cusax_media::TICK;
            let said: Vec<Vec<u8>> = encoders
                .iter_mut()
                .map(|(loud, encoder)| {
                    let mut payload = [0; cusax_media::codec::MAX_PAYLOAD];
                    let frame = std::array::from_fn(|_| *loud * random.random_range(-1.0..1.0));
                    let len = encoder.as_mut().unwrap().encode(&frame, &mut payload).unwrap();
                    payload[..len].to_vec()
                })
                .collect();
            for leg in 0..40u64 {
                let from = plan(leg, &terms).remote.unwrap();
                let mut packet = vec![0x80, payload_type(kind)];
                packet.extend(tick.to_be_bytes());
                packet.extend((u32::from(tick) * 960).to_be_bytes());
                packet.extend((leg as u32 + 100).to_be_bytes());
                packet.extend(&said[usize::from(leg > 0)]);
                mix.receive(now, LegId(leg), Port::Rtp, from, &packet, &mut reports);
            }
            mix.tick(now, &mut Out { send: &mut |_| {}, reports: &mut reports });
        }
        let speaks = |leg: u64| mix.legs[&LegId(leg)].speaker.is_audible();
        assert!(speaks(0) && !(1..40).any(speaks));
        let tally = mix.take_tally();
        assert!(tally.decoded > 500 + 39 * 9, "each was listened to now and then: {tally:?}");
        assert!(mix.decoders.len() <= 2, "{} decoders for 39 who are silent", mix.decoders.len());
        let held = mix.legs.values_mut().filter_map(|member| member.leg.spare_decoder()).count();
        assert!(held <= 2, "{held} legs keep a decoder");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_order_of_events_confuses_a_room(
            events in proptest::collection::vec(event(), 1..60),
        ) {
            let (mut mix, mut now, mut sequence) = (Mix::default(), Now::read().instant, 0);
            let mut loud = BTreeMap::new();
            let mut reports = vec![];
            for event in events {
                match event {
                    Event::Open(leg, terms) => mix.open(now, plan(leg, &terms), leg).unwrap(),
                    Event::Change(leg, terms) => mix.change(now, plan(leg, &terms)).unwrap(),
                    Event::Voice(leg, heard) => mix.voice(LegId(leg), heard, now),
                    Event::Volume(leg, up) => {
                        let volume = Volume::default();
                        let volume = if up { volume.louder() } else { volume.softer() };
                        mix.volume(LegId(leg), volume, volume).unwrap();
                    }
                    Event::Play(leg, at_once) => {
                        mix.play(LegId(leg), &[Prompt::Muted, Prompt::Number(21)], at_once);
                    }
                    Event::Chime => mix.chime(Tone::Left),
                    Event::Close(leg) => {
                        let mut out = Out { send: &mut |_| {}, reports: &mut reports };
                        mix.close(now, LegId(leg), &mut out);
                    }
                    Event::Speak(leg, loudness) => {
                        loud.insert(leg, loudness);
                    }
                    Event::Garbage(leg, bytes) => {
                        let from = SocketAddr::from(([127, 0, 0, 1], 10_000 + leg as u16));
                        mix.receive(now, LegId(leg), Port::Rtp, from, &bytes, &mut reports);
                    }
                    Event::Tick(count) => {
                        for _ in 0..count {
                            tick(&mut mix, &mut now, &loud, &mut sequence);
                        }
                    }
                    Event::Survey => {
                        mix.survey(now, &Patience::default(), &mut reports, |_, _| {});
                    }
                }
                check_books(&mix);
            }
        }
    }
}
