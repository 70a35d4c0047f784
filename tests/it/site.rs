//! A server in memory with people around it: chat clients that answer pings, and phones that do what
//! phones must (ACK, 200 to BYE and NOTIFY). Nothing but raw stanzas and raw SIP goes in.

use std::time::Duration;

use cusax_sip::flow::{Flow, Transport};
use cusax_sip::header::Name;
use cusax_sip::message::{Message, Request as SipRequest, Response as SipResponse, Status};
use cusax_sip::parse::parse;
use cusaxd::admin::audit::Via;
use cusaxd::admin::{Question, Request, Response};
use cusaxd::bridge::{Bridge, Input, Outbox};
use cusaxd::clock::Now;
use cusaxd::config::Config;
use cusaxd::id::RoomName;
use cusaxd::journal::Snapshot;
use cusaxd::metrics::Metrics;
use cusaxd::mixer::plan::Order;
use cusaxd::room::By;
use minidom::Element;
use serde_json::{Value, json};

/// The server and the phones around it.
pub struct Site {
    pub bridge: Bridge,
    pub now: Now,
    pub phones: Vec<Phone>,
    config: Value,
    requests: u32,
}

/// A phone, and the call it is in.
pub struct Phone {
    /// The address that the trusted proxy vouches for.
    from: String,
    pub call: Option<Call>,
    calls: u32,
}

/// A call as its caller's phone knows it.
pub struct Call {
    id: String,
    /// With the tag that the focus gave.
    to: String,
    target: String,
    cseq: u32,
}

/// Something that the server asked of the world.
pub enum Seen {
    Media(Order),
    Stanza(Element),
    Response { phone: usize, response: Box<SipResponse> },
    Request { phone: usize, request: Box<SipRequest> },
}

impl Site {
    /// A server for `ROOM@rooms.example.org` and `sip:ROOM@conf.example.org`, with no rooms, whose
    /// directory binds Alice's and the owner's calls to their JIDs.
    pub fn new(phones: &[&str]) -> Self {
        let config = json!({
            "xmpp": { "domain": "rooms.example.org", "secret": "x" },
            "sip": {
                "domain": "conf.example.org",
                "listen": ["udp:192.0.2.1:5060"],
                "trusted_proxies": ["192.0.2.9/32"],
            },
        });
        let now = Now::read();
        let read: Config = serde_json::from_value(config.clone()).unwrap();
        let bridge = Bridge::new(now, &read, "x", [7; 32], Snapshot::default(), Metrics::new());
        let phone = |from: &&str| Phone { from: (*from).to_owned(), call: None, calls: 0 };
        let phones = phones.iter().map(phone).collect();
        let mut site = Self { bridge, now, phones, config, requests: 0 };
        for user in ["alice", "owner"] {
            let body = json!({ "aor": format!("sip:{user}@conf.example.org") });
            let jid = format!("{user}@example.org").parse().unwrap();
            site.ask(Question::PutUser(jid, body));
        }
        site
    }

    /// An operator asks.
    pub fn ask(&mut self, question: Question) -> Vec<Seen> {
        self.requests += 1;
        let (ticket, by) = (u64::from(self.requests), By::Operator("test".to_owned()));
        self.input(Input::Admin(Request { ticket, by, via: Via::AdHoc, question }))
    }

    /// The configuration is read again, with one more option changed.
    pub fn configure(&mut self, section: &str, option: &str, value: Value) -> Vec<Seen> {
        self.config[section][option] = value;
        let config = serde_json::from_value(self.config.clone()).unwrap();
        self.input(Input::Configured(Box::new(config)))
    }

    /// A chat client sends a stanza.
    pub fn stanza(&mut self, xml: &str) -> Vec<Seen> {
        self.input(Input::Stanza(xml.parse().unwrap()))
    }

    /// A phone calls a room, if it is not in a call.
    pub fn call(&mut self, phone: usize, room: &str) -> Vec<Seen> {
        let it = &mut self.phones[phone];
        if it.call.is_some() {
            return vec![];
        }
        it.calls += 1;
        let target = format!("sip:{room}@conf.example.org");
        let id = format!("{phone}-{}", it.calls);
        let identity = format!("P-Asserted-Identity: <{}>\r\n", it.from);
        it.call = Some(Call { id, to: format!("<{target}>"), target, cseq: 0 });
        self.sip(phone, "INVITE", "sendrecv", &identity)
    }

    /// A phone subscribes to a room's conference (RFC 4575). Its NOTIFYs are of no call, and answered.
    pub fn subscribe(&mut self, phone: usize, room: &str) -> Vec<Seen> {
        self.requests += 1;
        let (from, n) = (&self.phones[phone].from, self.requests);
        let text = format!(
            "SUBSCRIBE sip:{room}@conf.example.org SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{n};rport\r\nMax-Forwards: 70\r\n\
             From: <{from}>;tag=s{n}\r\nTo: <sip:{room}@conf.example.org>\r\nCall-ID: s{n}\r\n\
             CSeq: 1 SUBSCRIBE\r\nContact: <sip:phone{phone}@192.0.2.9>\r\n\
             P-Asserted-Identity: <{from}>\r\nEvent: conference\r\nContent-Length: 0\r\n\r\n"
        );
        self.input(Input::Sip { flow: flow(), message: parse(text.as_bytes()) })
    }

    /// A phone in a call sends a re-INVITE with another direction.
    pub fn direct(&mut self, phone: usize, direction: &str) -> Vec<Seen> {
        self.sip(phone, "INVITE", direction, "")
    }

    /// A phone in a call hangs up.
    pub fn hang_up(&mut self, phone: usize) -> Vec<Seen> {
        let seen = self.sip(phone, "BYE", "", "");
        self.phones[phone].call = None;
        seen
    }

    /// Time passes, and what is due is done when it is due.
    pub fn wait(&mut self, time: Duration) -> Vec<Seen> {
        let end = self.now + time;
        let mut seen = vec![];
        while let Some(due) = self.bridge.poll_timeout().filter(|due| *due <= end.instant) {
            self.now = self.now + due.saturating_duration_since(self.now.instant);
            let mut out = Outbox::default();
            self.bridge.handle_timeout(self.now, &mut out);
            seen.extend(self.deliver(out));
        }
        self.now = self.now + end.instant.saturating_duration_since(self.now.instant);
        seen
    }

    /// One input, and all that comes of it.
    pub fn input(&mut self, input: Input) -> Vec<Seen> {
        let mut out = Outbox::default();
        self.bridge.handle(self.now, input, &mut out);
        self.deliver(out)
    }

    /// An input that is answered over HTTP, and the answer.
    pub fn answer(&mut self, input: Input) -> Response {
        let mut out = Outbox::default();
        self.bridge.handle(self.now, input, &mut out);
        out.admin.pop().expect("it is answered at once")
    }

    fn sip(&mut self, phone: usize, method: &str, direction: &str, headers: &str) -> Vec<Seen> {
        self.requests += 1;
        let Phone { from, call: Some(call), .. } = &mut self.phones[phone] else { return vec![] };
        if method != "ACK" {
            call.cseq += 1;
        }
        let body = if method == "INVITE" {
            format!(
                "v=0\r\no=- 1 {} IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
                 m=audio {} RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\na={direction}\r\n",
                call.cseq,
                30_000 + 2 * phone,
            )
        } else {
            String::new()
        };
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{};rport\r\n\
             Max-Forwards: 70\r\nFrom: <{from}>;tag=t{}\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: {} {method}\r\nContact: <sip:phone{phone}@192.0.2.9>\r\n{headers}{content}\
             Content-Length: {}\r\n\r\n{body}",
            call.target,
            self.requests,
            call.id,
            call.to,
            call.id,
            call.cseq,
            body.len(),
        );
        self.input(Input::Sip { flow: flow(), message: parse(text.as_bytes()) })
    }

    /// Does what the outbox asks of chat clients and phones, in the promised order.
    fn deliver(&mut self, out: Outbox) -> Vec<Seen> {
        let mut seen: Vec<_> = out.media.into_iter().map(Seen::Media).collect();
        for stanza in out.stanzas.each() {
            let (from, to) = (stanza.attr("from").unwrap(), stanza.attr("to").unwrap());
            if stanza.name() == "iq" && stanza.attr("type") == Some("get") {
                // A ping after the link came back: everyone still is there.
                let id = stanza.attr("id").unwrap();
                let pong = format!(
                    "<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{from}'/>"
                );
                seen.extend(self.stanza(&pong));
            } else {
                seen.push(Seen::Stanza(stanza));
            }
        }
        for transmit in out.sip {
            match parse(&transmit.bytes).expect("what we send can be read") {
                Message::Response(response) => seen.extend(self.answered(response)),
                Message::Request(request) => seen.extend(self.asked(request)),
            }
        }
        seen
    }

    fn answered(&mut self, response: SipResponse) -> Vec<Seen> {
        let id = response.headers.call_id().unwrap();
        let Some(phone) = self.phone_of(id) else { return vec![] };
        let invite = response.headers.cseq().unwrap().method.as_str() == "INVITE";
        let call = self.phones[phone].call.as_mut().expect("phone_of found it");
        let (status, established) = (response.status, call.to.contains("tag="));
        if invite && status.is_success() {
            call.to = response.headers.get(&Name::TO).unwrap().to_owned();
            call.target = response.headers.contact().unwrap().unwrap().uri.to_string();
        } else if invite && status.is_final() && !established {
            self.phones[phone].call = None;
        }
        let mut seen = vec![Seen::Response { phone, response: Box::new(response) }];
        if invite && status.is_success() {
            seen.extend(self.sip(phone, "ACK", "", ""));
        }
        seen
    }

    /// A request of the focus: a BYE ends the call; every request is answered.
    fn asked(&mut self, request: SipRequest) -> Vec<Seen> {
        let id = request.headers.call_id().unwrap();
        let phone = self.phone_of(id).unwrap_or(usize::MAX);
        if request.method.as_str() == "BYE" && phone != usize::MAX {
            self.phones[phone].call = None;
        }
        let answer = parse(&request.response(Status::OK).to_bytes());
        let mut seen = vec![Seen::Request { phone, request: Box::new(request) }];
        seen.extend(self.input(Input::Sip { flow: flow(), message: answer }));
        seen
    }

    fn phone_of(&self, call: &str) -> Option<usize> {
        self.phones.iter().position(|phone| phone.call.as_ref().is_some_and(|it| it.id == call))
    }
}

/// The room that these tests meet in.
pub fn cave() -> RoomName {
    RoomName::new("cave").unwrap()
}

fn flow() -> Flow {
    let address = |text: &str| text.parse().unwrap();
    Flow {
        transport: Transport::Udp,
        local: address("192.0.2.1:5060"),
        remote: address("192.0.2.9:5060"),
    }
}
