//! The transactions that are under way: whose a message is, what is sent again, and where it goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::{
    agenda::Agenda,
    dialog::append,
    endpoint::{DialogId, RequestId, SentId, SubscriptionId},
    flow::{Flow, Transmit, Transport},
    header::{CSeq, Headers, Name, Via},
    message::{Method, Request, Response, Status},
    transaction::{Client, Due, Heard, Server, T2},
    uri,
};

/// How long a flow may stay silent when there is another way to go.
const PATIENCE: Duration = T2;

/// All transactions of an endpoint.
#[derive(Debug)]
pub(crate) struct Transactions {
    max_servers: usize,
    max_clients: usize,
    last_id: u64,
    servers: BTreeMap<RequestId, ServerEntry>,
    by_key: HashMap<ServerKey, RequestId>,
    by_sender: HashMap<SenderKey, RequestId>,
    /// Those that may be dropped when memory is short, oldest first.
    spent: BTreeSet<RequestId>,
    clients: BTreeMap<SentId, ClientEntry>,
    by_branch: HashMap<(String, Method), SentId>,
    /// Which transactions depend on a flow.
    by_flow: BTreeSet<(Flow, Side)>,
    agenda: Agenda<Side>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Server(RequestId),
    Client(SentId),
}

/// What a request has in common with its copies, its ACK and its CANCEL (RFC 3261 §17.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ServerKey {
    /// The branch, or what stands for it in a request of RFC 2543.
    branch: String,
    sent_by: String,
    method: Method,
}

/// What a request has in common with the same one that came another way (RFC 3261 §8.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SenderKey {
    from_tag: Option<String>,
    call_id: String,
    cseq: u32,
    method: Method,
}

#[derive(Debug)]
struct ServerEntry {
    machine: Server,
    key: ServerKey,
    sender: Option<SenderKey>,
    /// Where answers go, and where else if that fails.
    reply: Flow,
    other: Option<Flow>,
    /// What every answer copies from the request; dropped with the final one.
    copied: Headers,
    tag: String,
    owner: Owner,
    sent: Option<Vec<u8>>,
}

/// Whose a request of a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The user's.
    User,
    /// An INVITE of this call.
    Call(DialogId),
    /// An UPDATE in this call, or a PRACK with an offer.
    Update(DialogId),
    /// A SUBSCRIBE.
    Subscription(SubscriptionId),
}

/// Whose a request of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The user's, outside of dialogs.
    User,
    /// The user's, in a dialog.
    Within(DialogId),
    /// An INVITE or re-INVITE.
    Invite(DialogId),
    /// An UPDATE that refreshes the session of this call.
    Refresh(DialogId),
    /// Nobody awaits the answer to this BYE but the dialog.
    Bye(DialogId),
    /// A report.
    Notify(SubscriptionId),
    /// A SUBSCRIBE.
    Subscribe(DialogId),
    /// Nobody awaits the answer: a CANCEL, a PRACK, the BYE of a branch that nobody wanted.
    Nobody,
}

/// An answer to a request of ours, or what stands for one that will not come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: SentId,
    pub(crate) purpose: Purpose,
    pub(crate) response: Response,
    /// Whether it was made here: the peer was silent, or out of reach.
    pub(crate) local: bool,
    /// Whether the request had to go another way than it was first sent.
    pub(crate) moved: bool,
    /// The request, for what must follow an unexpected 2xx.
    pub(crate) request: Request,
    pub(crate) flow: Flow,
}

/// A request of a peer that its user never answered.
#[derive(Debug)]
pub(crate) enum Lapse {
    /// The request lapsed, and its client has stopped waiting.
    Server(RequestId, Owner),
    /// Our request did.
    Client(Box<Answer>),
}

/// The way of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) first: Flow,
    /// Where it goes if the first flow fails.
    pub(crate) other: Option<Flow>,
    /// Whether it also goes there if the first flow stays silent for [`PATIENCE`].
    pub(crate) impatient: bool,
}

impl Route {
    /// One way, and no other.
    pub(crate) fn only(flow: Flow) -> Self {
        Self { first: flow, other: None, impatient: false }
    }
}

#[derive(Debug)]
struct ClientEntry {
    machine: Client,
    request: Request,
    branch: String,
    flow: Flow,
    other: Option<Flow>,
    moved: bool,
    impatient_at: Option<Instant>,
    purpose: Purpose,
    ack: Option<Vec<u8>>,
}

impl Transactions {
    pub(crate) fn new(max_servers: usize, max_clients: usize) -> Self {
        Self {
            max_servers,
            max_clients,
            last_id: 0,
            servers: BTreeMap::new(),
            by_key: HashMap::new(),
            by_sender: HashMap::new(),
            spent: BTreeSet::new(),
            clients: BTreeMap::new(),
            by_branch: HashMap::new(),
            by_flow: BTreeSet::new(),
            agenda: Agenda::new(),
        }
    }

    /// How many there are on the server's side and on the client's.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.servers.len(), self.clients.len())
    }

    /// Whether no index remembers a transaction that is over.
    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        self.servers.is_empty()
            && self.clients.is_empty()
            && self.by_key.is_empty()
            && self.by_sender.is_empty()
            && self.by_branch.is_empty()
            && self.by_flow.is_empty()
            && self.spent.is_empty()
            && self.agenda.is_empty()
    }

    // The server's side.

    /// The transaction that a request belongs to: its own, or for an ACK that of its INVITE.
    pub(crate) fn find(&self, request: &Request) -> Option<RequestId> {
        let is_ack = request.method == Method::Ack;
        let method = if is_ack { &Method::Invite } else { &request.method };
        self.by_key.get(&ServerKey::new(request, method)?).copied()
    }

    /// The INVITE that a CANCEL is about (RFC 3261 §9.2), whose it is, and its To tag.
    pub(crate) fn find_cancelled(&self, cancel: &Request) -> Option<(RequestId, Owner, &str)> {
        let id = self.by_key.get(&ServerKey::new(cancel, &Method::Invite)?)?;
        let entry = self.servers.get(id)?;
        Some((*id, entry.owner, &entry.tag))
    }

    /// Whether the same request came another way before (RFC 3261 §8.2.2.2).
    pub(crate) fn is_merged(&self, request: &Request) -> bool {
        SenderKey::new(request).is_some_and(|key| self.by_sender.contains_key(&key))
    }

    /// Opens a transaction for a request that has none. Its answers will have this To tag.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
        tag: String,
        owner: Owner,
    ) -> Option<RequestId> {
        if self.servers.len() >= self.max_servers {
            let oldest = *self.spent.first()?;
            self.close(oldest);
        }
        let key = ServerKey::new(request, &request.method)?;
        let (reply, other) = reply_flows(flow, &request.headers.via().ok()?);
        self.last_id += 1;
        let id = RequestId::new(self.last_id);
        let machine =
            Server::new(now, request.method == Method::Invite, flow.transport.is_reliable());
        let sender = SenderKey::new(request);
        if let Some(sender) = &sender {
            self.by_sender.insert(sender.clone(), id);
        }
        self.by_key.insert(key.clone(), id);
        if reply.transport.is_reliable() {
            self.by_flow.insert((reply, Side::Server(id)));
        }
        self.agenda.set(Side::Server(id), machine.poll_timeout());
        let copied = request.response(Status::OK).headers;
        let sent = None;
        let entry = ServerEntry { machine, key, sender, reply, other, copied, tag, owner, sent };
        self.servers.insert(id, entry);
        Some(id)
    }

    /// Sends the last answer again to a client that seems to have missed it.
    pub(crate) fn handle_copy(&self, id: RequestId, out: &mut Vec<Transmit>) {
        if let Some(entry) = self.servers.get(&id).filter(|entry| entry.machine.handle_copy()) {
            out.extend(entry.transmit());
        }
    }

    /// Takes an ACK of the INVITE's own branch. Says whether it was for the transaction.
    pub(crate) fn handle_ack(&mut self, now: Instant, id: RequestId) -> bool {
        let Some(entry) = self.servers.get_mut(&id) else { return false };
        let taken = entry.machine.handle_ack(now);
        self.settle(id);
        taken
    }

    /// Whether a request still waits for its final answer.
    pub(crate) fn is_waiting(&self, id: RequestId) -> bool {
        self.servers.get(&id).is_some_and(|entry| entry.machine.is_waiting())
    }

    /// Whose a request is, as long as it waits for its final answer.
    pub(crate) fn owner(&self, id: RequestId) -> Option<Owner> {
        self.servers.get(&id).filter(|entry| entry.machine.is_waiting()).map(|entry| entry.owner)
    }

    /// Sends the last answer again: the 2xx of a call until the ACK comes (RFC 3261 §13.3.1.4), a
    /// reliable 1xx until PRACK does (RFC 3262 §3).
    pub(crate) fn resend(&self, id: RequestId, out: &mut Vec<Transmit>) {
        out.extend(self.servers.get(&id).and_then(ServerEntry::transmit));
    }

    /// Completes an answer and sends it. Says whether it was sent: it may not be after the final one.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        id: RequestId,
        mut response: Response,
        out: &mut Vec<Transmit>,
    ) -> bool {
        let Some(entry) = self.servers.get_mut(&id) else { return false };
        if !entry.machine.handle_answer(now, response.status) {
            return false;
        }
        let tag = (response.status != Status::TRYING).then_some(entry.tag.as_str());
        complete(&mut response, &entry.copied, tag);
        if response.status.is_final() {
            entry.copied = Headers::new();
        }
        entry.sent = Some(response.to_bytes());
        out.extend(entry.transmit());
        self.settle(id);
        true
    }

    // The client's side.

    /// Whether there is room for one more request of ours.
    pub(crate) fn may_start(&self) -> bool {
        self.clients.len() < self.max_clients
    }

    /// Sends a request, whose Via is put on here. Beyond the limit it is sent once and forgotten, and
    /// there is no id.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        mut request: Request,
        branch: String,
        route: Route,
        purpose: Purpose,
        out: &mut Vec<Transmit>,
    ) -> Option<SentId> {
        let Route { first: flow, other, impatient } = route;
        request.headers.push_front(Name::VIA, via(flow, &branch));
        out.push(Transmit { flow, bytes: request.to_bytes() });
        if !self.may_start() {
            return None;
        }
        self.last_id += 1;
        let id = SentId::new(self.last_id);
        self.by_branch.insert((branch.clone(), request.method.clone()), id);
        self.by_flow.insert((flow, Side::Client(id)));
        let invite = request.method == Method::Invite;
        let entry = ClientEntry {
            machine: Client::new(now, invite, flow.transport.is_reliable()),
            request,
            branch,
            flow,
            other,
            moved: false,
            impatient_at: (impatient && other.is_some()).then(|| now + PATIENCE),
            purpose,
            ack: None,
        };
        self.agenda.set(Side::Client(id), entry.poll_timeout());
        self.clients.insert(id, entry);
        Some(id)
    }

    /// Whether our INVITE has a provisional answer and no final one: it may be cancelled
    /// (RFC 3261 §9.1).
    pub(crate) fn is_proceeding(&self, id: SentId) -> bool {
        self.clients.get(&id).is_some_and(|entry| entry.machine.is_proceeding())
    }

    /// Cancels our INVITE: a transaction of its own with the same branch (RFC 3261 §9.1).
    pub(crate) fn cancel(
        &mut self,
        now: Instant,
        id: SentId,
        headers: &Headers,
        out: &mut Vec<Transmit>,
    ) {
        let Some(entry) = self.clients.get_mut(&id) else { return };
        entry.machine.handle_cancel(now);
        let mut cancel = entry.hop_by_hop(Method::Cancel, None);
        append(&mut cancel.headers, headers);
        let (flow, branch) = (entry.flow, entry.branch.clone());
        let at = entry.poll_timeout();
        self.agenda.set(Side::Client(id), at);
        self.start(now, cancel, branch, Route::only(flow), Purpose::Nobody, out);
    }

    /// Takes a response. Gives it to whom it is for, unless it is a copy or nobody's.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        response: Response,
        out: &mut Vec<Transmit>,
    ) -> Option<Answer> {
        let vias = response.headers.vias().ok()?;
        // More than our own Via: it was meant for somebody behind us (RFC 3261 §8.1.3.3).
        let [via] = vias.as_slice() else { return None };
        let method = response.headers.cseq().ok()?.method;
        let id = *self.by_branch.get(&(via.branch()?.to_owned(), method))?;
        let entry = self.clients.get_mut(&id)?;
        let heard = entry.machine.handle_response(now, response.status);
        entry.impatient_at = None;
        if heard == Heard::PassAndAck {
            let ack = entry.hop_by_hop(Method::Ack, response.headers.get(&Name::TO));
            entry.ack = Some(ack.to_bytes());
        }
        if matches!(heard, Heard::PassAndAck | Heard::AckAgain) {
            let flow = entry.flow;
            out.extend(entry.ack.clone().map(|bytes| Transmit { flow, bytes }));
        }
        let answer = match heard {
            Heard::Pass | Heard::PassAndAck => Some(entry.answer(id, response)),
            Heard::AckAgain | Heard::Ignore => None,
        };
        self.agenda.set(Side::Client(id), entry.poll_timeout());
        answer
    }

    // Both sides.

    /// Finds another way for whatever depends on a flow that failed. Gives the requests of ours for
    /// which there is none.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        flow: Flow,
        out: &mut Vec<Transmit>,
    ) -> Vec<Answer> {
        let first = (flow, Side::Server(RequestId::new(0)));
        let last = (flow, Side::Client(SentId::new(u64::MAX)));
        let affected: Vec<_> = self.by_flow.range(first..=last).map(|(_, side)| *side).collect();
        let mut lost = vec![];
        for side in affected {
            match side {
                Side::Server(id) => self.redirect(id, out),
                Side::Client(id) => {
                    if !self.reroute(now, id, out) {
                        lost.extend(self.give_up(id, Status::SERVICE_UNAVAILABLE));
                    }
                }
            }
        }
        lost
    }

    /// Does the next thing that is due at `now`, and tells of it if anybody must know. To be called
    /// until [`Self::poll_timeout`] is later than `now`.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut Vec<Transmit>,
    ) -> Option<Lapse> {
        match self.agenda.pop(now)? {
            Side::Server(id) => {
                let entry = self.servers.get_mut(&id)?;
                match entry.machine.handle_timeout(now) {
                    Due::Nothing | Due::Cancel => {}
                    Due::Resend => out.extend(entry.transmit()),
                    Due::Trying => {
                        self.answer(now, id, Response::new(Status::TRYING), out);
                    }
                    Due::TimedOut => {
                        let owner = entry.owner;
                        return Some(Lapse::Server(id, owner));
                    }
                    Due::Over => self.close(id),
                }
                self.settle(id);
                None
            }
            Side::Client(id) => {
                let entry = self.clients.get_mut(&id)?;
                if entry.impatient_at.is_some_and(|at| at <= now) {
                    self.reroute(now, id, out);
                    return None;
                }
                match entry.machine.handle_timeout(now) {
                    Due::Nothing | Due::Trying => {}
                    Due::Cancel => {
                        self.cancel(now, id, &Headers::new(), out);
                        return None;
                    }
                    Due::Resend => out.push(entry.transmit()),
                    Due::TimedOut => {
                        let lapsed = self.give_up(id, Status::REQUEST_TIMEOUT)?;
                        return Some(Lapse::Client(Box::new(lapsed)));
                    }
                    Due::Over => {
                        self.forget(id);
                        return None;
                    }
                }
                let at = entry.poll_timeout();
                self.agenda.set(Side::Client(id), at);
                None
            }
        }
    }

    /// When [`Self::handle_timeout`] is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.agenda.next()
    }

    /// Ends a server transaction at once.
    pub(crate) fn close(&mut self, id: RequestId) {
        let Some(entry) = self.servers.remove(&id) else { return };
        self.agenda.set(Side::Server(id), None);
        self.spent.remove(&id);
        self.by_flow.remove(&(entry.reply, Side::Server(id)));
        self.by_key.remove(&entry.key);
        if let Some(sender) = entry.sender.filter(|key| self.by_sender.get(key) == Some(&id)) {
            self.by_sender.remove(&sender);
        }
    }

    /// Brings the books up to date after a server transaction may have moved.
    fn settle(&mut self, id: RequestId) {
        let Some(entry) = self.servers.get(&id) else { return };
        self.agenda.set(Side::Server(id), entry.machine.poll_timeout());
        if entry.machine.is_spent() {
            self.spent.insert(id);
        }
    }

    /// Sends answers to the address in Via, since the connection of the request is gone
    /// (RFC 3261 §18.2.2).
    fn redirect(&mut self, id: RequestId, out: &mut Vec<Transmit>) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        self.by_flow.remove(&(entry.reply, Side::Server(id)));
        let Some(other) = entry.other.take() else { return };
        entry.reply = other;
        self.by_flow.insert((other, Side::Server(id)));
        if entry.machine.handle_copy() {
            out.extend(entry.transmit());
        }
    }

    /// Sends our request another way. Says whether there was one, or none was needed.
    fn reroute(&mut self, now: Instant, id: SentId, out: &mut Vec<Transmit>) -> bool {
        let Some(entry) = self.clients.get_mut(&id) else { return true };
        if !entry.machine.is_waiting() {
            return true;
        }
        let Some(other) = entry.other.take() else { return false };
        self.by_flow.remove(&(entry.flow, Side::Client(id)));
        (entry.flow, entry.moved, entry.impatient_at) = (other, true, None);
        entry.machine.move_to(now, entry.flow.transport.is_reliable());
        // The same branch: whoever got the request both ways knows it as one.
        entry.request.headers.set_top_via(&via(entry.flow, &entry.branch));
        out.push(entry.transmit());
        self.by_flow.insert((entry.flow, Side::Client(id)));
        self.agenda.set(Side::Client(id), entry.poll_timeout());
        true
    }

    /// Ends a client transaction that will not be answered (RFC 3261 §8.1.3.1).
    fn give_up(&mut self, id: SentId, status: Status) -> Option<Answer> {
        let entry = self.forget(id)?;
        let response = entry.request.response(status);
        Some(Answer { local: true, ..entry.answer(id, response) })
    }

    fn forget(&mut self, id: SentId) -> Option<ClientEntry> {
        let entry = self.clients.remove(&id)?;
        self.agenda.set(Side::Client(id), None);
        self.by_flow.remove(&(entry.flow, Side::Client(id)));
        self.by_branch.remove(&(entry.branch.clone(), entry.request.method.clone()));
        Some(entry)
    }
}

impl ServerEntry {
    /// The last answer, if there is one.
    fn transmit(&self) -> Option<Transmit> {
        self.sent.clone().map(|bytes| Transmit { flow: self.reply, bytes })
    }
}

impl ClientEntry {
    fn transmit(&self) -> Transmit {
        Transmit { flow: self.flow, bytes: self.request.to_bytes() }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout().into_iter().chain(self.impatient_at).min()
    }

    fn answer(&self, id: SentId, response: Response) -> Answer {
        let Self { purpose, moved, flow, .. } = *self;
        let request = self.request.clone();
        Answer { id, purpose, response, local: false, moved, request, flow }
    }

    /// An ACK to a refusal, or a CANCEL: what goes to the next hop alone and repeats the INVITE's
    /// headers (RFC 3261 §9.1, §17.1.1.3). The CANCEL's Via is put on when it is sent.
    fn hop_by_hop(&self, method: Method, to: Option<&str>) -> Request {
        let invite = &self.request;
        let mut request = Request::new(method.clone(), invite.uri.clone());
        if method == Method::Ack {
            request.headers.push(Name::VIA, via(self.flow, &self.branch));
        }
        for name in [Name::MAX_FORWARDS, Name::FROM, Name::TO, Name::CALL_ID, Name::ROUTE] {
            request.headers.copy(&invite.headers, &name);
        }
        if let Some(to) = to {
            request.headers.set(Name::TO, to);
        }
        let number = invite.headers.cseq().map_or(0, |cseq| cseq.number);
        request.with(Name::CSEQ, CSeq::new(number, method))
    }
}

impl ServerKey {
    fn new(request: &Request, method: &Method) -> Option<Self> {
        let headers = &request.headers;
        let via = headers.via().ok()?;
        let sent_by = match via.port {
            Some(port) => format!("{}:{port}", via.host).to_ascii_lowercase(),
            None => via.host.to_string().to_ascii_lowercase(),
        };
        let branch = match via.rfc3261_branch() {
            Some(branch) => branch.to_ascii_lowercase(),
            // The rules before RFC 3261. The To tag is left out: a request with another To tag but
            // the same From tag, Call-ID and CSeq number does not exist, and so an ACK and a CANCEL
            // are found under the same key.
            None => {
                let cseq = headers.cseq().ok()?.number;
                let call_id = headers.call_id().ok()?;
                let from_tag = headers.from_tag().ok()?.unwrap_or_default();
                format!("{} {from_tag} {call_id} {cseq} {via}", request.uri)
            }
        };
        Some(Self { branch, sent_by, method: method.clone() })
    }
}

impl SenderKey {
    /// Of a request that belongs to no dialog yet.
    fn new(request: &Request) -> Option<Self> {
        let headers = &request.headers;
        if headers.to_tag().ok()?.is_some() {
            return None;
        }
        let (from_tag, call_id) = (headers.from_tag().ok()?, headers.call_id().ok()?.to_owned());
        let cseq = headers.cseq().ok()?;
        Some(Self { from_tag, call_id, cseq: cseq.number, method: cseq.method })
    }
}

/// Puts on an answer what it has from the request (RFC 3261 §8.2.6.2), whatever stands there, and on
/// To this tag unless the request had one.
pub(crate) fn complete(response: &mut Response, copied: &Headers, tag: Option<&str>) {
    const COPIED: [Name; 5] = [Name::VIA, Name::FROM, Name::TO, Name::CALL_ID, Name::CSEQ];
    let mut headers = Headers::new();
    for name in &COPIED {
        headers.copy(copied, name);
    }
    if let (Some(tag), Ok(None)) = (tag, headers.to_tag()) {
        headers.set_to_tag(tag);
    }
    let forms_dialogs = response.status != Status::TRYING
        && (response.status.is_provisional() || response.status.is_success());
    if forms_dialogs {
        headers.copy(copied, &Name::RECORD_ROUTE);
    }
    let own = response.headers.iter();
    for (name, value) in own.filter(|(name, _)| **name != Name::RECORD_ROUTE) {
        if !COPIED.contains(name) {
            headers.push(name.clone(), value);
        }
    }
    response.headers = headers;
}

/// Where answers to a request go that came over this flow, and where else if that fails
/// (RFC 3261 §18.2.2, RFC 3581 §4).
pub(crate) fn reply_flows(flow: Flow, via: &Via) -> (Flow, Option<Flow>) {
    let mut named = flow;
    let port = via.port.unwrap_or(uri::Transport::from(flow.transport).default_port());
    named.remote.set_port(port);
    match flow.transport {
        Transport::Udp if via.rport().is_some() => (flow, None),
        Transport::Udp => (named, None),
        Transport::Tcp | Transport::Tls => (flow, Some(named).filter(|named| *named != flow)),
        Transport::Ws | Transport::Wss => (flow, None),
    }
}

/// The flow by which the sender of a request is reached: where its answers go.
pub(crate) fn way_back(flow: Flow, request: &Request) -> Flow {
    request.headers.via().map_or(flow, |via| reply_flows(flow, &via).0)
}

/// The Via of what we send over a flow.
pub(crate) fn via(flow: Flow, branch: &str) -> Via {
    Via::new(flow.transport.into(), flow.local, branch)
}
