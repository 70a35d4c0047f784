//! Offer and answer (RFC 3264): what two sides agree on, and how it changes during a call.
//!
//! [`Negotiation`] lives as long as its call. It takes the peer's offer and gives our answer, or
//! gives our offer and takes the peer's answer; either way it ends with an [`Audio`]. It keeps what
//! the model wants kept: the order of streams, payload types, session id and version. Which codecs
//! we can do, and in which order we like them, is the caller's say: [`Capabilities`].

use std::{collections::BTreeMap, net::SocketAddr};

use rand::{RngCore, rngs::StdRng};
use sdp_types::{Connection, Media, Origin, Session, Time};

use super::{
    Codec, Description, Destination, Direction, Extension, Format, Refusal, Stream,
    TELEPHONE_EVENT, crypto::Crypto,
};

/// What this side can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Codecs, best first, with the payload type and the parameters that our descriptions show. In
    /// an answer the payload type is the offerer's.
    pub codecs: Vec<Offered>,
    /// Clock rates of telephone-event that we understand, in hertz, each with the payload type that
    /// our offers show.
    pub telephone_events: Vec<(u32, u8)>,
    /// Whether we take RTP and RTCP on one port, if the peer does.
    pub rtcp_mux: bool,
    /// URIs of the RTP header extensions that we understand; our offers number them from 1.
    pub extensions: Vec<String>,
    /// Suites of SRTP, best first, each with the length of its master key and salt in bytes. Of an
    /// offer the first line is taken whose suite is one of these.
    pub suites: Vec<(String, usize)>,
    /// How long our packets are, in milliseconds, if our descriptions should say so.
    pub ptime_ms: Option<u16>,
    /// What the stream is called in RFC 4575 documents (RFC 4574), if our descriptions should say so.
    pub label: Option<String>,
}

/// A codec of ours as our descriptions show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The codec.
    pub codec: Codec,
    /// Its payload type in our offers.
    pub payload_type: u8,
    /// Its parameters as they stand in `a=fmtp`; empty for none.
    pub fmtp: String,
}

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Where our RTP goes; `None` while the peer wants none at all (`0.0.0.0`).
    pub remote_rtp: Option<SocketAddr>,
    /// Where our RTCP goes, unless [`Self::remote_rtp`] is `None`.
    pub remote_rtcp: Option<SocketAddr>,
    /// Whether both share a port, on both sides.
    pub rtcp_mux: bool,
    /// The codecs in common, best first and never none: the first is the one to send, and packets of
    /// any may arrive. An answer of ours holds just one.
    pub codecs: Vec<Agreed>,
    /// Key presses, one entry for each clock rate in common.
    pub telephone_events: Vec<TelephoneEvent>,
    /// How long our packets should be, in milliseconds, if the peer says so.
    pub ptime_ms: Option<u16>,
    /// How long they may be at most.
    pub max_ptime_ms: Option<u16>,
    /// Which way media flows, seen from our side.
    pub direction: Direction,
    /// What the peer said of itself, before ours was taken into account: `SendOnly` or `Inactive`
    /// is a hold.
    pub remote_direction: Direction,
    /// RTP header extensions in common, with the ids to use both ways.
    pub extensions: Vec<Extension>,
    /// What the peer calls the stream (RFC 4574).
    pub remote_label: Option<String>,
    /// The keys of both sides, if packets are protected.
    pub srtp: Option<Srtp>,
}

/// The keys of both sides, of one suite and under one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srtp {
    /// What we send with.
    pub ours: Crypto,
    /// What they send with.
    pub theirs: Crypto,
}

/// A codec in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The codec.
    pub codec: Codec,
    /// The payload type to send with.
    pub send: u8,
    /// The payload type that arrives.
    pub receive: u8,
    /// What the peer wants to receive, names in lower case.
    pub remote_fmtp: Vec<(String, String)>,
}

/// The payload types of telephone-event at one clock rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// The clock rate, in hertz.
    pub clock_rate: u32,
    /// The payload type to send with.
    pub send: u8,
    /// The payload type that arrives.
    pub receive: u8,
}

impl Audio {
    /// The codec to send.
    pub fn codec(&self) -> &Agreed {
        &self.codecs[0]
    }

    /// Whether the peer has put us on hold: it takes no media.
    pub fn is_held(&self) -> bool {
        !self.remote_direction.receives()
    }
}

/// Our side of all offers and answers of one call.
#[derive(Clone, Debug)]
pub struct Negotiation {
    capabilities: Capabilities,
    address: SocketAddr,
    session_id: u64,
    version: u64,
    /// Each m-line so far: their number and order never change (RFC 3264 §8).
    slots: Vec<Media>,
    /// Which of them is our audio.
    audio: usize,
    /// What each payload type meant so far: they keep their meaning (RFC 3264 §8.3.2).
    payload_types: BTreeMap<u8, Codec>,
    /// What each extension id meant so far: likewise (RFC 8285 §6).
    extension_ids: BTreeMap<u8, String>,
    /// What we sent last, be it accepted or not.
    sent: Option<Vec<u8>>,
    /// What we sent last and is in force.
    current: Option<Vec<u8>>,
    /// Whether that is an offer without an answer yet.
    offering: bool,
    /// The keys in force.
    srtp: Option<Srtp>,
}

impl Negotiation {
    /// A call at this local RTP address (RTCP is one port above, or the same with mux). The session
    /// id should be random, below 2⁶³.
    pub fn new(capabilities: Capabilities, address: SocketAddr, session_id: u64) -> Self {
        Self {
            capabilities,
            address,
            session_id,
            version: session_id,
            slots: vec![],
            audio: 0,
            payload_types: BTreeMap::new(),
            extension_ids: BTreeMap::new(),
            sent: None,
            current: None,
            offering: false,
            srtp: None,
        }
    }

    /// Our description that is in force, to be sent again where nothing changes, as in a session
    /// refresh.
    pub fn current(&self) -> Option<&[u8]> {
        self.current.as_deref()
    }

    /// Whether an offer of ours waits for its answer: an offer that comes in now is glare, to be
    /// answered with 491 (RFC 3261 §14.2).
    pub fn is_offering(&self) -> bool {
        self.offering
    }

    /// Whether packets are protected by what is in force.
    pub fn is_protected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Moves our end of the media: the next description shows it.
    pub fn set_address(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Answers an offer. `direction` is what we would do at most: the answer allows no more than the
    /// offer does. `keys` is where our keys of SRTP come from; `None` where others can read what is
    /// signalled, and so keys are neither told nor believed (RFC 4568 §7.3). After a refusal everything
    /// is as before (RFC 3261 §14.2).
    ///
    /// While the peer's key stays, so does ours, and both go on counting; with a new one of theirs goes a
    /// new one of ours (RFC 4568 §7.1.4).
    pub fn answer(
        &mut self,
        offer: &[u8],
        direction: Direction,
        keys: Option<&mut StdRng>,
    ) -> Result<(Vec<u8>, Audio), Refusal> {
        let offer = Description::parse(offer)?;
        let streams = offer.streams()?;
        if streams.len() < self.slots.len() {
            return Err(Refusal::Malformed("fewer streams than before"));
        }
        let (at, mut audio) = self.choose(&streams, direction, keys.is_some())?;
        if let (Some(line), Some(random)) = (self.line(&streams[at]), keys) {
            let theirs = line.clone();
            let ours = match &self.srtp {
                Some(had) if had.theirs.suite == theirs.suite && had.theirs.key == theirs.key => {
                    had.ours.key.clone()
                }
                Some(_) | None => fresh(random, theirs.key.len()),
            };
            let ours = Crypto { key: ours, ..theirs.clone() };
            audio.srtp = Some(Srtp { ours, theirs });
        }
        let mut slots: Vec<_> = offer.session().medias.iter().map(refused).collect();
        slots[at] = self.answer_stream(&streams[at], &audio);
        self.slots = slots;
        self.audio = at;
        self.offering = false;
        // An answer repeats the offer's time (RFC 3264 §6).
        let time = offer.session().times.first().map_or((0, 0), |t| (t.start_time, t.stop_time));
        let text = self.describe(time);
        self.keep(&audio);
        Ok((text, audio))
    }

    /// Makes an offer: the first one of a call, or a change to it. With `keys`, as in [`Self::answer`],
    /// it has keys of every suite that the peer may take or leave; if there are some in force, those and
    /// no others.
    pub fn offer(&mut self, direction: Direction, keys: Option<&mut StdRng>) -> Vec<u8> {
        let media = self.offer_stream(direction, keys);
        self.slots = self.slots.iter().map(refused).collect();
        match self.slots.get_mut(self.audio) {
            Some(slot) => *slot = media,
            None => self.slots.push(media),
        }
        self.offering = true;
        self.describe((0, 0))
    }

    /// Offers what is in force once more, so that nothing changes: for the refresh of a session
    /// (RFC 4028 §7.4). `None` before anything is.
    pub fn repeat(&mut self) -> Option<Vec<u8>> {
        self.sent = Some(self.current.clone()?);
        self.offering = true;
        self.sent.clone()
    }

    /// Takes the answer to our offer. After a refusal the offer is off.
    pub fn accept(&mut self, answer: &[u8]) -> Result<Audio, Refusal> {
        if !std::mem::take(&mut self.offering) {
            return Err(Refusal::Malformed("answer without offer"));
        }
        let answer = Description::parse(answer)?;
        let streams = answer.streams()?;
        if streams.len() != self.slots.len() {
            return Err(Refusal::Malformed("streams do not match the offer"));
        }
        let ours = self.read_back()?;
        let mut audio = self.agree(&ours, &streams[self.audio])?;
        audio.srtp = self.agree_on_keys(&ours, &streams[self.audio])?;
        self.keep(&audio);
        Ok(audio)
    }

    /// Drops our offer, which the peer refused or which was never sent.
    pub fn withdraw(&mut self) {
        self.offering = false;
    }

    /// Keeps in force what was agreed on.
    fn keep(&mut self, audio: &Audio) {
        self.current.clone_from(&self.sent);
        self.srtp.clone_from(&audio.srtp);
        let events = audio.telephone_events.iter();
        let events = events.map(|e| (e.receive, Codec::new(TELEPHONE_EVENT, e.clock_rate, 1)));
        self.payload_types.extend(events);
        self.payload_types.extend(audio.codecs.iter().map(|a| (a.receive, a.codec.clone())));
        self.extension_ids.extend(audio.extensions.iter().map(|e| (e.id, e.uri.clone())));
    }

    /// The first audio stream of an offer that we can take.
    fn choose(
        &self,
        streams: &[Stream],
        direction: Direction,
        keys: bool,
    ) -> Result<(usize, Audio), Refusal> {
        let mut refusal = Refusal::NoAudio;
        for (at, stream) in streams.iter().enumerate() {
            if stream.kind != "audio" || stream.port == 0 {
                continue;
            }
            match self.take(stream, direction, keys) {
                Ok(audio) => return Ok((at, audio)),
                Err(why) if refusal == Refusal::NoAudio => refusal = why,
                Err(_) => {}
            }
        }
        Err(refusal)
    }

    /// Whether an audio stream is of a kind that we can take.
    fn check(&self, stream: &Stream) -> Result<(), Refusal> {
        let proto = stream.proto.to_ascii_uppercase();
        if proto != "RTP/AVP" && proto != "RTP/AVPF" && !stream.demands_srtp() {
            return Err(Refusal::Transport);
        }
        match stream.destination {
            Destination::Nowhere => Ok(()),
            // Our socket cannot reach the other family, and must not be made to talk to itself.
            Destination::To(remote)
                if remote.is_ipv4() == self.address.is_ipv4() && remote != self.address =>
            {
                Ok(())
            }
            Destination::To(_) | Destination::Unusable => Err(Refusal::Address),
        }
    }

    /// What an offered stream and our capabilities have in common.
    fn take(&self, stream: &Stream, direction: Direction, keys: bool) -> Result<Audio, Refusal> {
        self.check(stream)?;
        if stream.demands_srtp() && !keys {
            return Err(Refusal::KeysInTheClear);
        }
        if stream.demands_srtp() && self.line(stream).is_none() {
            return Err(Refusal::NoSuite);
        }
        let offered = |codec: &Codec| stream.formats.iter().find(|f| f.codec == *codec);
        let codec = self.capabilities.codecs.iter().find_map(|ours| offered(&ours.codec));
        let codec = codec.ok_or(Refusal::NoCodec)?;
        let events = self.capabilities.telephone_events.iter().filter_map(|(clock_rate, _)| {
            let format = offered(&Codec::new(TELEPHONE_EVENT, *clock_rate, 1))?;
            let payload_type = format.payload_type;
            Some(TelephoneEvent {
                clock_rate: *clock_rate,
                send: payload_type,
                receive: payload_type,
            })
        });
        let known = |e: &&Extension| self.capabilities.extensions.contains(&e.uri);
        let extensions = stream.extensions.iter().filter(known).cloned().collect();
        let mux = stream.rtcp_mux && self.capabilities.rtcp_mux;
        let agreed = vec![agree_on(codec, codec.payload_type)];
        audio(stream, mux, agreed, events.collect(), extensions, direction)
    }

    /// What our own offered stream and the one that answers it have in common.
    fn agree(&self, ours: &Stream, theirs: &Stream) -> Result<Audio, Refusal> {
        if theirs.kind != "audio" || theirs.port == 0 {
            return Err(Refusal::NoAudio);
        }
        self.check(theirs)?;
        let ours_of = |codec: &Codec| ours.formats.iter().find(|f| f.codec == *codec);
        let both = theirs.formats.iter().filter_map(|f| Some((f, ours_of(&f.codec)?)));
        let (events, codecs): (Vec<_>, Vec<_>) =
            both.partition(|(f, _)| f.codec.is_telephone_event());
        let codecs: Vec<_> = codecs.iter().map(|(f, o)| agree_on(f, o.payload_type)).collect();
        if codecs.is_empty() {
            return Err(Refusal::NoCodec);
        }
        let events = events.iter().map(|(f, o)| TelephoneEvent {
            clock_rate: f.codec.clock_rate,
            send: f.payload_type,
            receive: o.payload_type,
        });
        let known = |e: &&Extension| ours.extensions.contains(e);
        let extensions = theirs.extensions.iter().filter(known).cloned().collect();
        let mux = ours.rtcp_mux && theirs.rtcp_mux;
        audio(theirs, mux, codecs, events.collect(), extensions, ours.direction)
    }

    /// The first key line that we can do.
    fn line<'a>(&self, stream: &'a Stream) -> Option<&'a Crypto> {
        let known = |line: &&Crypto| {
            let suites = &mut self.capabilities.suites.iter();
            suites.any(|(name, length)| line.suite == *name && line.key.len() == *length)
        };
        stream.crypto.iter().find(known)
    }

    /// The keys of an answer to our offer: one line, of a tag and suite of ours (RFC 4568 §5.1.3).
    /// Without one the stream is plain, if it need not be protected and was not so before.
    fn agree_on_keys(&self, ours: &Stream, theirs: &Stream) -> Result<Option<Srtp>, Refusal> {
        let offered = |line: &Crypto| {
            let fits = |it: &&Crypto| {
                it.tag == line.tag && it.suite == line.suite && it.key.len() == line.key.len()
            };
            ours.crypto.iter().find(fits).cloned()
        };
        match &theirs.crypto[..] {
            [] if !ours.demands_srtp() && !theirs.demands_srtp() && self.srtp.is_none() => Ok(None),
            [line] => {
                let ours = offered(line).ok_or(Refusal::NoSuite)?;
                Ok(Some(Srtp { ours, theirs: line.clone() }))
            }
            _ => Err(Refusal::NoSuite),
        }
    }

    /// Our own stream as we last described it.
    fn read_back(&self) -> Result<Stream, Refusal> {
        let sent = self.sent.as_deref().ok_or(Refusal::Malformed("answer without offer"))?;
        let mut streams = Description::parse(sent)?.streams()?;
        Ok(streams.swap_remove(self.audio))
    }

    fn answer_stream(&self, offered: &Stream, audio: &Audio) -> Media {
        let mut media = self.stream(&offered.proto);
        let codec = audio.codec();
        let ours = self.capabilities.codecs.iter().find(|ours| ours.codec == codec.codec);
        let fmtp = ours.map(|ours| ours.fmtp.as_str()).unwrap_or_default();
        add_format(&mut media, codec.receive, &codec.codec, fmtp);
        for event in &audio.telephone_events {
            let codec = Codec::new(TELEPHONE_EVENT, event.clock_rate, 1);
            add_format(&mut media, event.receive, &codec, EVENTS);
        }
        if let Some(srtp) = &audio.srtp {
            media.add_attribute_with_value("crypto", &srtp.ours);
        }
        if let Some(mid) = &offered.mid {
            media.add_attribute_with_value("mid", mid);
        }
        self.finish(media, audio.rtcp_mux, &audio.extensions, audio.direction)
    }

    fn offer_stream(&self, direction: Direction, keys: Option<&mut StdRng>) -> Media {
        let had = self.slots.get(self.audio).map_or("RTP/AVP", |media| media.proto.as_str());
        let mut media = self.stream(if self.srtp.is_some() { had } else { "RTP/AVP" });
        let lines = match (&self.srtp, keys) {
            (Some(srtp), _) => vec![srtp.ours.clone()],
            (None, Some(random)) => {
                let suites = (1..).zip(&self.capabilities.suites);
                let line = |(tag, (suite, length)): (u32, &(String, usize))| Crypto {
                    tag,
                    suite: suite.clone(),
                    key: fresh(random, *length),
                };
                suites.map(line).collect()
            }
            (None, None) => vec![],
        };
        for line in lines {
            media.add_attribute_with_value("crypto", line);
        }
        let events = self.capabilities.telephone_events.iter().map(|(clock_rate, payload_type)| {
            let codec = Codec::new(TELEPHONE_EVENT, *clock_rate, 1);
            Offered { codec, payload_type: *payload_type, fmtp: EVENTS.to_owned() }
        });
        let mut payload_types = self.payload_types.clone();
        for Offered { codec, payload_type, fmtp } in
            self.capabilities.codecs.iter().cloned().chain(events)
        {
            let wanted = std::iter::once(payload_type).chain(96..=127);
            if let Some(payload_type) = bind(&mut payload_types, &codec, wanted) {
                add_format(&mut media, payload_type, &codec, &fmtp);
            }
        }
        let mut ids = self.extension_ids.clone();
        let extensions = self.capabilities.extensions.iter();
        let extensions: Vec<_> = extensions
            .filter_map(|uri| {
                Some(Extension { id: bind(&mut ids, uri, 1..=14)?, uri: uri.clone() })
            })
            .collect();
        self.finish(media, self.capabilities.rtcp_mux, &extensions, direction)
    }

    fn stream(&self, proto: &str) -> Media {
        Media {
            media: "audio".to_owned(),
            port: self.address.port(),
            num_ports: None,
            proto: proto.to_owned(),
            fmt: String::new(),
            media_title: None,
            connections: vec![],
            bandwidths: vec![],
            key: None,
            attributes: vec![],
        }
    }

    fn finish(
        &self,
        mut media: Media,
        mux: bool,
        extensions: &[Extension],
        direction: Direction,
    ) -> Media {
        if let Some(ptime) = self.capabilities.ptime_ms {
            media.add_attribute_with_value("ptime", ptime);
        }
        for Extension { id, uri } in extensions {
            media.add_attribute_with_value("extmap", format!("{id} {uri}"));
        }
        if mux {
            media.add_attribute_from_str("rtcp-mux");
        }
        if let Some(label) = &self.capabilities.label {
            media.add_attribute_with_value("label", label);
        }
        media.add_attribute_from_str(direction);
        media
    }

    /// Prints the streams; the version grows if anything differs from what was sent before
    /// (RFC 3264 §8).
    fn describe(&mut self, (start_time, stop_time): (u64, u64)) -> Vec<u8> {
        let print = |version: u64| {
            let ip = self.address.ip();
            let origin = Origin::with_ip_addr(self.session_id, version, ip);
            let mut session = Session::new(origin, "-");
            session.connection = Some(Connection::from_ip_addr(ip));
            session.times = vec![Time::new(start_time, stop_time)];
            session.medias.clone_from(&self.slots);
            Description(session).to_bytes()
        };
        let mut text = print(self.version);
        if self.sent.as_ref().is_some_and(|sent| *sent != text) {
            self.version += 1;
            text = print(self.version);
        }
        self.sent = Some(text.clone());
        text
    }
}

/// The events of our telephone-event: the sixteen keys (RFC 4733 §3.2).
const EVENTS: &str = "0-15";

/// A master key with its salt, of so many bytes.
fn fresh(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut key = vec![0; length];
    random.fill_bytes(&mut key);
    key
}

fn agree_on(theirs: &Format, receive: u8) -> Agreed {
    Agreed {
        codec: theirs.codec.clone(),
        send: theirs.payload_type,
        receive,
        remote_fmtp: theirs.fmtp.clone(),
    }
}

fn audio(
    theirs: &Stream,
    rtcp_mux: bool,
    codecs: Vec<Agreed>,
    telephone_events: Vec<TelephoneEvent>,
    extensions: Vec<Extension>,
    ours: Direction,
) -> Result<Audio, Refusal> {
    let (remote_rtp, remote_direction) = match theirs.destination {
        Destination::To(address) => (Some(address), theirs.direction),
        // The old hold: whatever the direction says, nothing can be sent there.
        Destination::Nowhere | Destination::Unusable => {
            (None, theirs.direction.and(Direction::SendOnly))
        }
    };
    let remote_rtcp = theirs.rtcp_destination(rtcp_mux);
    if remote_rtp.is_some() && remote_rtcp.is_none() {
        return Err(Refusal::Address);
    }
    Ok(Audio {
        remote_rtp,
        remote_rtcp,
        rtcp_mux,
        codecs,
        telephone_events,
        ptime_ms: theirs.ptime_ms,
        max_ptime_ms: theirs.max_ptime_ms,
        direction: remote_direction.reversed().and(ours),
        remote_direction,
        extensions,
        remote_label: theirs.label.clone(),
        srtp: None,
    })
}

/// Finds the number for something of ours: the one that it had, else the first free one of those
/// wanted. `None` if all are taken.
fn bind<T: Clone + PartialEq>(
    bound: &mut BTreeMap<u8, T>,
    value: &T,
    mut wanted: impl Iterator<Item = u8>,
) -> Option<u8> {
    let had = bound.iter().find(|(_, had)| *had == value).map(|(number, _)| *number);
    let number = had.or_else(|| wanted.find(|number| !bound.contains_key(number)))?;
    bound.insert(number, value.clone());
    Some(number)
}

fn add_format(media: &mut Media, payload_type: u8, codec: &Codec, fmtp: &str) {
    if !media.fmt.is_empty() {
        media.fmt.push(' ');
    }
    media.fmt.push_str(&payload_type.to_string());
    media.add_attribute_with_value("rtpmap", format!("{payload_type} {codec}"));
    if !fmtp.is_empty() {
        media.add_attribute_with_value("fmtp", format!("{payload_type} {fmtp}"));
    }
}

/// The m-line that refuses another (RFC 3264 §6), or that keeps its place.
fn refused(media: &Media) -> Media {
    Media {
        port: 0,
        num_ports: None,
        media_title: None,
        connections: vec![],
        bandwidths: vec![],
        key: None,
        attributes: vec![],
        ..media.clone()
    }
}
