//! People in rooms of Janus AudioBridge, as plain RTP participants, told by Janus's API over its Unix
//! socket (one JSON document a packet). All are handles of one session.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;
use serde_json::{Value, json};

use crate::sip::{Seat, Wish};

const PAYLOAD_TYPE: u8 = 100;
/// For how long an answer is waited for, in seconds.
const PATIENCE: i64 = 15;

/// A session with Janus; the people go with it.
#[derive(Debug)]
pub(crate) struct Session {
    socket: OwnedFd,
    id: u64,
    sent: u64,
}

impl Session {
    /// Makes the rooms and puts everybody into theirs.
    pub(crate) fn join(
        path: &Path,
        wishes: &[Wish],
        bitrate: u32,
        quality: u32,
    ) -> anyhow::Result<(Self, Vec<Seat>)> {
        let kind = SockType::SeqPacket;
        let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?).context("Janus is not there")?;
        let mut session = Self { socket, id: 0, sent: 0 };
        session.id = session.ask(json!({ "janus": "create" }), "success")?["data"]["id"]
            .as_u64()
            .context("no session")?;
        let mut rooms: Vec<&str> = wishes.iter().map(|wish| wish.room.as_str()).collect();
        rooms.dedup();
        let maker = session.attach()?;
        for number in 1..=rooms.len() {
            let body = json!({
                "request": "create", "room": number, "sampling_rate": 48_000,
                "audiolevel_ext": true, "allow_rtp_participants": true,
            });
            let answer = session.message(maker, body, "success")?;
            if answer["plugindata"]["data"]["audiobridge"] != "created" {
                bail!("no room: {answer}");
            }
        }
        let mut seats = vec![];
        for wish in wishes {
            let room = rooms.iter().position(|room| *room == wish.room).unwrap_or(0) + 1;
            let handle = session.attach()?;
            let body = json!({
                "request": "join", "room": room, "display": wish.name,
                "bitrate": bitrate, "quality": quality,
                "rtp": { "ip": "127.0.0.1", "port": wish.port, "payload_type": PAYLOAD_TYPE },
            });
            let answer = session.message(handle, body, "event")?;
            let rtp = &answer["plugindata"]["data"]["rtp"];
            let port = rtp["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            let port = port.with_context(|| format!("no seat: {answer}"))?;
            let media = SocketAddr::from(([127, 0, 0, 1], port));
            seats.push(Seat { media, payload_type: PAYLOAD_TYPE, levels: false });
        }
        Ok((session, seats))
    }

    /// Ends the session.
    pub(crate) fn leave(mut self) -> anyhow::Result<()> {
        self.ask(json!({ "janus": "destroy", "session_id": self.id }), "success").map(drop)
    }

    fn attach(&mut self) -> anyhow::Result<u64> {
        let plugin = "janus.plugin.audiobridge";
        let attach = json!({ "janus": "attach", "session_id": self.id, "plugin": plugin });
        self.ask(attach, "success")?["data"]["id"].as_u64().context("no handle")
    }

    fn message(&mut self, handle: u64, body: Value, answer: &str) -> anyhow::Result<Value> {
        let request = json!({
            "janus": "message", "session_id": self.id, "handle_id": handle, "body": body,
        });
        self.ask(request, answer)
    }

    /// Sends a request and waits for its answer; other things that Janus tells are passed over.
    fn ask(&mut self, mut request: Value, answer: &str) -> anyhow::Result<Value> {
        self.sent += 1;
        let transaction = self.sent.to_string();
        request["transaction"] = json!(transaction);
        send(self.socket.as_raw_fd(), request.to_string().as_bytes(), MsgFlags::empty())?;
        let mut packet = vec![0; 65_536];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty())
                .context("Janus does not answer")?;
            let told: Value = serde_json::from_slice(&packet[..len]).context("not JSON")?;
            if told["transaction"] != transaction.as_str() {
                continue;
            }
            if told["janus"] == "error" {
                bail!("Janus refuses {request}: {told}");
            }
            if told["janus"] == answer {
                return Ok(told);
            }
        }
    }
}
