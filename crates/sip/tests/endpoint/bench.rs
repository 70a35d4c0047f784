//! An endpoint on a bench: a peer writes to it by hand, and the clock stands until it is moved.

use std::time::{Duration, Instant};

use cusax_sip::{
    endpoint::{Config, DialogId, Endpoint, Event, Limits, SessionTimer, SubscriptionId},
    flow::{Flow, Transmit, Transport},
    header::{Headers, Name},
    message::{Message, Method, Request, Response, Status},
    parse::parse,
};

pub(crate) const PEER: &str = "192.0.2.7:5070";
pub(crate) const OURS: &str = "192.0.2.1:5060";

#[expect(clippy::disallowed_methods, reason = "any fixed start will do")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

pub(crate) fn flow(transport: Transport, remote: &str) -> Flow {
    Flow { transport, local: OURS.parse().unwrap(), remote: remote.parse().unwrap() }
}

pub(crate) fn udp() -> Flow {
    flow(Transport::Udp, PEER)
}

pub(crate) fn tcp() -> Flow {
    flow(Transport::Tcp, PEER)
}

pub(crate) struct Bench {
    pub(crate) endpoint: Endpoint,
    start: Instant,
    pub(crate) now: Instant,
    /// The flow by which the peer is heard.
    pub(crate) flow: Flow,
    sent: Vec<(u128, Transmit)>,
    events: Vec<Event>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::with_both(limits, None)
    }

    /// One whose calls last for as long as somebody refreshes them.
    pub(crate) fn timed() -> Self {
        Self::with_both(Limits::default(), Some(SessionTimer { interval: 1800, min: 90 }))
    }

    fn with_both(limits: Limits, session: Option<SessionTimer>) -> Self {
        let supported = ["timer", "100rel"].map(str::to_owned).to_vec();
        let config = Config { supported, product: String::new(), session, limits };
        let start = epoch();
        let endpoint = Endpoint::new(config, [7; 32]);
        Self { endpoint, start, now: start, flow: udp(), sent: vec![], events: vec![] }
    }

    /// The time, in ms since the start.
    pub(crate) fn ms(&self) -> u128 {
        (self.now - self.start).as_millis()
    }

    /// Lets the user do something.
    pub(crate) fn user<T>(
        &mut self,
        act: impl FnOnce(&mut Endpoint, Instant, &mut Vec<Transmit>) -> T,
    ) -> T {
        let mut out = vec![];
        let done = act(&mut self.endpoint, self.now, &mut out);
        self.note(out);
        done
    }

    /// Lets the peer say something.
    pub(crate) fn hear(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        let (now, flow) = (self.now, self.flow);
        let events =
            self.user(|endpoint, _, out| endpoint.receive(now, flow, text.as_bytes(), out));
        self.events.extend(events);
    }

    pub(crate) fn fail(&mut self, flow: Flow) {
        let events = self.user(|endpoint, now, out| endpoint.failed(now, flow, out));
        self.events.extend(events);
    }

    /// Lets time pass, with all that happens meanwhile.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let events = self.user(|endpoint, now, out| endpoint.handle_timeout(now, out));
            self.events.extend(events);
        }
        self.now = until;
    }

    /// Lets time pass until nothing is left to do, and asserts that nothing is left.
    pub(crate) fn drain(&mut self) {
        self.wait(3_600_000 * 3);
        assert_eq!(self.endpoint.poll_timeout(), None);
        assert_eq!(self.endpoint.load(), Default::default());
    }

    fn note(&mut self, out: Vec<Transmit>) {
        let ms = self.ms();
        self.sent.extend(out.into_iter().map(|transmit| (ms, transmit)));
    }

    /// What was sent since the last look.
    pub(crate) fn transmits(&mut self) -> Vec<Transmit> {
        std::mem::take(&mut self.sent).into_iter().map(|(_, transmit)| transmit).collect()
    }

    /// What was sent since the last look: times in ms, and a word each.
    pub(crate) fn log(&mut self) -> Vec<(u128, String)> {
        let word = |transmit: &Transmit| match parse(&transmit.bytes).unwrap() {
            Message::Request(request) => request.method.to_string(),
            Message::Response(response) => {
                format!("{} {}", response.status, response.headers.cseq().unwrap().method)
            }
        };
        let sent = std::mem::take(&mut self.sent);
        sent.iter().map(|(ms, transmit)| (*ms, word(transmit))).collect()
    }

    /// The words alone, as one text.
    pub(crate) fn words(&mut self) -> String {
        let words: Vec<_> = self.log().into_iter().map(|(_, word)| word).collect();
        words.join(", ")
    }

    /// The one response that was sent since the last look.
    pub(crate) fn response(&mut self) -> Response {
        match self.message() {
            Message::Response(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// The one request that was sent since the last look.
    pub(crate) fn request(&mut self) -> Request {
        match self.message() {
            Message::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn message(&mut self) -> Message {
        let mut sent = self.transmits();
        assert_eq!(sent.len(), 1, "{sent:?}");
        parse(&sent.remove(0).bytes).unwrap()
    }

    /// The events since the last look.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The one event since the last look.
    pub(crate) fn event(&mut self) -> Event {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Takes an INVITE up to the event.
    pub(crate) fn ring(&mut self) -> DialogId {
        self.hear(&invite(""));
        match self.event() {
            Event::Invite { dialog, .. } => dialog,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn answer(&mut self, dialog: DialogId, code: u16) {
        self.user(|endpoint, now, out| endpoint.answer(now, dialog, status(code), out));
    }

    pub(crate) fn bye(&mut self, dialog: DialogId) {
        let mut headers = Headers::new();
        headers.push(Name::REASON, "SIP;cause=603");
        self.user(|endpoint, now, out| endpoint.bye(now, dialog, headers, out));
    }

    /// A call that the peer made, up and confirmed; and our tag in it.
    pub(crate) fn up(&mut self) -> (DialogId, String) {
        let dialog = self.ring();
        self.answer(dialog, 200);
        let tag = self.response().headers.to_tag().unwrap().unwrap();
        self.hear(&within("ACK", 1, &tag, "z9hG4bKack1", ""));
        assert!(matches!(self.event(), Event::Ack { request: Some(_), .. }));
        (dialog, tag)
    }

    /// Takes a SUBSCRIBE up to the event.
    pub(crate) fn subscribe(&mut self, expires: u32) -> SubscriptionId {
        self.hear(&subscribe("", expires));
        match self.event() {
            Event::Subscribe { subscription, .. } => subscription,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn accept(&mut self, subscription: SubscriptionId) {
        let response = status(200);
        self.user(|endpoint, now, out| endpoint.answer_subscribe(now, subscription, response, out));
    }

    pub(crate) fn notify(
        &mut self,
        subscription: SubscriptionId,
        length: usize,
    ) -> Result<(), cusax_sip::endpoint::SendError> {
        let (headers, body) = (Headers::new(), vec![b'x'; length]);
        self.user(|endpoint, now, out| endpoint.notify(now, subscription, headers, body, out))
    }

    /// Answers a request that we sent, as its peer would.
    pub(crate) fn reply(&mut self, request: &Request, code: u16, extra: &str) {
        let text = reply(request, code, extra);
        self.hear(&text);
    }
}

pub(crate) fn status(code: u16) -> Response {
    Response::new(Status::new(code).unwrap())
}

/// A request of the peer outside of dialogs.
pub(crate) fn outside(method: &str, cseq: u32, branch: &str, extra: &str) -> String {
    format!(
        "{method} sip:room@192.0.2.1 SIP/2.0\n\
         Via: SIP/2.0/UDP 192.0.2.7:5070;branch={branch};rport\n\
         From: <sip:bob@example.org>;tag=bob\n\
         To: <sip:room@example.org>\n\
         Call-ID: call-1\n\
         CSeq: {cseq} {method}\n\
         Contact: <sip:bob@192.0.2.7:5070>\n\
         {extra}Content-Length: 0\n\n"
    )
}

/// A request of the peer in the dialog in which we have this tag.
pub(crate) fn within(method: &str, cseq: u32, tag: &str, branch: &str, extra: &str) -> String {
    let to = "To: <sip:room@example.org>";
    outside(method, cseq, branch, extra).replace(to, &format!("{to};tag={tag}"))
}

pub(crate) fn invite(extra: &str) -> String {
    outside("INVITE", 1, "z9hG4bKinvite1", extra)
}

pub(crate) fn subscribe(extra: &str, expires: u32) -> String {
    let extra = format!("Event: conference\nExpires: {expires}\n{extra}");
    outside("SUBSCRIBE", 1, "z9hG4bKsubscribe1", &extra)
}

/// What a peer answers to a request of ours; its tag is `bob` unless `extra` starts with `tag=`.
pub(crate) fn reply(request: &Request, code: u16, extra: &str) -> String {
    let (tag, extra) = match extra.strip_prefix("tag=") {
        Some(rest) => rest.split_once('\n').unwrap(),
        None => ("bob", extra),
    };
    let get = |name: Name| request.headers.get(&name).unwrap().to_owned();
    let mut to = get(Name::TO);
    if !to.contains("tag=") && code > 100 {
        to.push_str(&format!(";tag={tag}"));
    }
    let contact = match request.method {
        Method::Invite => "Contact: <sip:bob@192.0.2.7:5070>\n",
        _ => "",
    };
    format!(
        "SIP/2.0 {code} Whatever\nVia: {}\nFrom: {}\nTo: {to}\nCall-ID: {}\nCSeq: {}\n{contact}\
         {extra}Content-Length: 0\n\n",
        get(Name::VIA),
        get(Name::FROM),
        get(Name::CALL_ID),
        get(Name::CSEQ),
    )
}

/// An INVITE with a body, so that our 2xx holds the answer.
pub(crate) fn invite_with_offer() -> String {
    invite("Content-Type: application/sdp\n").replace("Content-Length: 0\n\n", "\nv=0\n")
}

impl Bench {
    pub(crate) fn ring_with_offer(&mut self) -> DialogId {
        self.hear(&invite_with_offer());
        match self.event() {
            Event::Invite { dialog, .. } => dialog,
            other => panic!("{other:?}"),
        }
    }
}
