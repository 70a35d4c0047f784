//! Calls into rooms by SIP (RFC 3261), over UDP: INVITE, ACK, BYE, and what is resent.
//!
//! Names come in P-Asserted-Identity, so that nobody needs a password: the server has to trust us.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cusax_sip::message::{Message, Response};
use cusax_sip::parse::parse;
use cusax_sip::sdp::{Description, Destination};

use crate::clock;

/// Calls that are being set up at once.
const AT_ONCE: usize = 32;
/// A request is sent again after this long, and given up after that long.
const RESEND: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(15);
/// The payload type that we offer for Opus, and the id of our level extension.
const OPUS: u8 = 96;
pub(crate) const LEVEL_ID: u8 = 1;

/// Where the audio of a call goes to, and as what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) media: SocketAddr,
    pub(crate) payload_type: u8,
    /// The server takes audio levels.
    pub(crate) levels: bool,
}

/// One call to be made.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) room: String,
    pub(crate) name: String,
    /// Our port for its audio.
    pub(crate) port: u16,
}

/// Calls that are up.
#[derive(Debug)]
pub(crate) struct Calls {
    socket: UdpSocket,
    domain: String,
    wishes: Vec<Wish>,
    /// To and Contact of each call's 200.
    dialogs: Vec<(String, String)>,
}

impl Calls {
    /// Makes all calls, each with at most `bitrate` down, in bits a second; in the order of the wishes, where each
    /// one's audio goes to.
    pub(crate) fn dial(
        server: SocketAddr,
        domain: &str,
        wishes: Vec<Wish>,
        levels: bool,
        bitrate: u32,
    ) -> anyhow::Result<(Self, Vec<Seat>)> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(server)?;
        let dialogs = vec![(String::new(), String::new()); wishes.len()];
        let mut calls = Self { socket, domain: domain.to_owned(), wishes, dialogs };
        let mut seats: Vec<Option<Seat>> = vec![None; calls.wishes.len()];
        let count = calls.wishes.len();
        calls.exchange(
            count,
            |calls, number| calls.invite(number, levels, bitrate),
            |calls, number, response| {
                ensure!(
                    response.status.code() == 200,
                    "{} was refused: {} {}",
                    calls.wishes[number].name,
                    response.status.code(),
                    response.reason
                );
                let contact = response.headers.contact()?.context("no Contact")?;
                let to = response.headers.to()?.to_string();
                calls.dialogs[number] = (to, contact.uri.to_string());
                calls.send(&calls.request(number, "ACK", 1))?;
                seats[number] = Some(seat(&response.body)?);
                Ok(())
            },
        )?;
        let seats = seats.into_iter().collect::<Option<_>>().context("a call has no seat")?;
        Ok((calls, seats))
    }

    /// Ends all calls.
    pub(crate) fn hang_up(mut self) -> anyhow::Result<()> {
        let count = self.wishes.len();
        self.exchange(
            count,
            |calls, number| Ok(calls.request(number, "BYE", 2)),
            |calls, number, response| {
                let (name, status) = (&calls.wishes[number].name, response.status.code());
                ensure!(status == 200, "{name} could not hang up: {status}, so the call was over");
                Ok(())
            },
        )
    }

    /// Sends `count` requests, a few at a time, each until it has its final response.
    fn exchange(
        &mut self,
        count: usize,
        request: impl Fn(&Self, usize) -> anyhow::Result<String>,
        mut answered: impl FnMut(&mut Self, usize, &Response) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut open: BTreeMap<usize, (Instant, Instant)> = BTreeMap::new();
        let (mut next, mut done) = (0, 0);
        let mut datagram = [0; 65_536];
        self.socket.set_read_timeout(Some(RESEND / 10))?;
        while done < count {
            while open.len() < AT_ONCE && next < count {
                self.send(&request(self, next)?)?;
                open.insert(next, (clock(), clock()));
                next += 1;
            }
            if let Ok(len) = self.socket.recv(&mut datagram)
                && let Ok(Message::Response(response)) = parse(&datagram[..len])
                && let Some(number) = numbered(&response)
                && response.status.code() >= 200
            {
                if open.remove(&number).is_some() {
                    answered(self, number, &response)?;
                    done += 1;
                } else if self.dialogs.get(number).is_some_and(|dialog| !dialog.0.is_empty()) {
                    // Our ACK was lost.
                    self.send(&self.request(number, "ACK", 1))?;
                }
            }
            for (number, (begun, sent)) in &mut open {
                let now = clock();
                if now.saturating_duration_since(*begun) > PATIENCE {
                    bail!("{} got no answer", self.wishes[*number].name);
                }
                if now.saturating_duration_since(*sent) > RESEND {
                    *sent = now;
                    self.socket.send(request(self, *number)?.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn send(&self, request: &str) -> anyhow::Result<()> {
        self.socket.send(request.as_bytes())?;
        Ok(())
    }

    fn invite(&self, number: usize, levels: bool, bitrate: u32) -> anyhow::Result<String> {
        let wish = &self.wishes[number];
        let extension = match levels {
            true => {
                format!("a=extmap:{LEVEL_ID} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n")
            }
            false => String::new(),
        };
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP {OPUS}\r\na=rtpmap:{OPUS} opus/48000/2\r\n\
             a=fmtp:{OPUS} useinbandfec=1;maxaveragebitrate={bitrate}\r\na=rtcp-mux\r\na=ptime:20\r\n{extension}",
            wish.port
        );
        let target = format!("sip:{}@{}", wish.room, self.domain);
        let head = self.head(number, "INVITE", 1, &target, &format!("<{target}>"));
        Ok(format!(
            "{head}P-Asserted-Identity: <sip:{}@{}>\r\nAllow: INVITE, ACK, BYE, CANCEL\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            wish.name,
            self.domain,
            body.len()
        ))
    }

    /// A request of an established call.
    fn request(&self, number: usize, method: &str, cseq: u32) -> String {
        let (to, contact) = &self.dialogs[number];
        format!("{}Content-Length: 0\r\n\r\n", self.head(number, method, cseq, contact, to))
    }

    fn head(&self, number: usize, method: &str, cseq: u32, target: &str, to: &str) -> String {
        let name = &self.wishes[number].name;
        let (domain, process) = (&self.domain, std::process::id());
        let address = self.socket.local_addr().map_or(String::new(), |address| address.to_string());
        format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};rport;branch=z9hG4bK-{process}-{number}-{method}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{domain}>;tag=f{number}\r\nTo: {to}\r\n\
             Call-ID: {process}-{number}@load\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{name}@{address}>\r\n"
        )
    }
}

/// Which call a response belongs to, by its Call-ID.
fn numbered(response: &Response) -> Option<usize> {
    response.headers.call_id().ok()?.split_once('-')?.1.split_once('@')?.0.parse().ok()
}

/// What an SDP answer says of the audio.
fn seat(answer: &[u8]) -> anyhow::Result<Seat> {
    let answer = Description::parse(answer).map_err(|why| anyhow::anyhow!("SDP: {why:?}"))?;
    let streams = answer.streams().map_err(|why| anyhow::anyhow!("SDP: {why:?}"))?;
    let stream = streams.first().context("no audio in the answer")?;
    let media = match stream.destination {
        Destination::To(media) => media,
        Destination::Nowhere | Destination::Unusable => bail!("no address in the answer"),
    };
    let format = stream.formats.first().context("no format in the answer")?;
    let levels = stream.extensions.iter().any(|extension| extension.id == LEVEL_ID);
    Ok(Seat { media, payload_type: format.payload_type, levels })
}
