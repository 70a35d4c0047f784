//! Dialogs (RFC 3261 §12): what two user agents know of each other while a call or a subscription lasts.

use std::net::{IpAddr, SocketAddr};

use crate::{
    flow::{Flow, Transmit, Transport},
    header::{CSeq, HeaderError, Headers, Name, NameAddr},
    message::{Method, Request, Response},
    table::{Route, via},
    uri::{self, SipUri, Uri},
};

/// The longest request that goes by UDP if it can go by TCP (RFC 3261 §18.1.1), in bytes.
pub(crate) const MAX_DATAGRAM: usize = 1300;

/// What a request of ours starts with (RFC 3261 §8.1.1.6).
pub(crate) const MAX_FORWARDS: u8 = 70;

/// What makes a dialog that one and no other (RFC 3261 §12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DialogKey {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    /// Empty from peers of RFC 2543, and while we call somebody.
    pub(crate) remote_tag: String,
}

/// A dialog, as one side holds it.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) key: DialogKey,
    /// From of our requests, with our tag.
    local: NameAddr,
    /// To of our requests, with the peer's tag.
    remote: NameAddr,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    route_set: Vec<NameAddr>,
    /// The Request-URI of our requests: the peer's last Contact.
    target: Uri,
    /// Our Contact.
    pub(crate) contact: NameAddr,
    /// Where the peer was heard last.
    pub(crate) flow: Flow,
    /// The peer was found out of reach by TCP: what is long goes by UDP too.
    pub(crate) datagrams_only: bool,
}

impl Dialog {
    /// The dialog that our answer with this tag forms (§12.1.1).
    pub(crate) fn of_server(
        request: &Request,
        flow: Flow,
        local_tag: String,
    ) -> Result<Self, HeaderError> {
        let headers = &request.headers;
        let contact = headers.contact()?.ok_or(HeaderError::Missing(Name::CONTACT))?;
        let target = target(contact).ok_or(HeaderError::Malformed(Name::CONTACT))?;
        let remote = headers.from()?;
        let key = DialogKey {
            call_id: headers.call_id()?.to_owned(),
            remote_tag: remote.tag().unwrap_or_default().to_owned(),
            local_tag: local_tag.clone(),
        };
        let mut local = headers.to()?;
        local.params.set("tag", Some(&local_tag));
        Ok(Self {
            key,
            local,
            remote,
            local_cseq: 0,
            remote_cseq: Some(headers.cseq()?.number),
            route_set: headers.record_routes()?,
            target,
            contact: own_contact(flow),
            flow,
            datagrams_only: false,
        })
    }

    /// A dialog that a request of ours asks for; [`Self::confirm`] makes it complete (§12.1.2).
    pub(crate) fn of_client(request: &Request, flow: Flow) -> Result<Self, HeaderError> {
        let headers = &request.headers;
        let local = headers.from()?;
        let key = DialogKey {
            call_id: headers.call_id()?.to_owned(),
            local_tag: local.tag().unwrap_or_default().to_owned(),
            remote_tag: String::new(),
        };
        Ok(Self {
            key,
            local,
            remote: headers.to()?,
            local_cseq: headers.cseq()?.number,
            remote_cseq: None,
            route_set: headers.routes()?,
            target: request.uri.clone(),
            contact: headers.contact()?.unwrap_or_else(|| own_contact(flow)),
            flow,
            datagrams_only: false,
        })
    }

    /// Takes the peer's tag, route set and target from its answer (§12.1.2). A 2xx does so again
    /// after a provisional answer (§13.2.2.4).
    pub(crate) fn confirm(&mut self, response: &Response) -> Result<(), HeaderError> {
        let headers = &response.headers;
        let remote = headers.to()?;
        let mut route_set = headers.record_routes()?;
        route_set.reverse();
        self.key.remote_tag = remote.tag().unwrap_or_default().to_owned();
        self.remote = remote;
        self.route_set = route_set;
        self.refresh(headers);
        Ok(())
    }

    /// Takes the peer's tag, route set and target from a request that came before its answer
    /// (RFC 6665 §4.4.1).
    pub(crate) fn confirm_by(&mut self, request: &Request, flow: Flow) -> Result<(), HeaderError> {
        let headers = &request.headers;
        let remote = headers.from()?;
        let route_set = headers.record_routes()?;
        self.key.remote_tag = remote.tag().unwrap_or_default().to_owned();
        self.remote = remote;
        self.route_set = route_set;
        self.flow = flow;
        self.refresh(headers);
        Ok(())
    }

    /// Takes a new target from a request or answer that may bring one (§12.2.1.2, §12.2.2). What is
    /// absent or no SIP URI changes nothing.
    pub(crate) fn refresh(&mut self, headers: &Headers) {
        if let Some(target) = headers.contact().ok().flatten().and_then(target) {
            self.target = target;
        }
    }

    /// Notes a request of the peer; says whether it is in order (§12.2.2). ACK and CANCEL, which
    /// repeat the number of an INVITE, are not to be noted.
    pub(crate) fn handle_cseq(&mut self, number: u32) -> bool {
        let in_order = self.remote_cseq.is_none_or(|last| number > last);
        if in_order {
            self.remote_cseq = Some(number);
        }
        in_order
    }

    /// Whether the peer has told its tag, so that requests can be sent in it.
    pub(crate) fn is_formed(&self) -> bool {
        !self.key.remote_tag.is_empty() || self.remote_cseq.is_some()
    }

    /// A request in this dialog, without Via (§12.2.1.1).
    pub(crate) fn request(&mut self, method: Method) -> Request {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.numbered(method, self.local_cseq)
    }

    /// The ACK to a 2xx of the INVITE of that number (§13.2.2.4).
    pub(crate) fn ack(&self, number: u32) -> Request {
        self.numbered(Method::Ack, number)
    }

    fn numbered(&self, method: Method, number: u32) -> Request {
        let mut routes = self.route_set.clone();
        let mut uri = self.target.clone();
        // A first hop of RFC 2543 routes by the Request-URI: it gets its own address there, and the
        // target goes last.
        let strict =
            |route: &NameAddr| route.uri.as_sip().is_some_and(|uri| !uri.is_loose_router());
        if routes.first().is_some_and(strict) {
            uri = routes.remove(0).uri;
            if let Uri::Sip(uri) = &mut uri {
                uri.remove_param("method");
                uri.clear_headers();
            }
            routes.push(NameAddr::new(self.target.clone()));
        }
        let mut request = Request::new(method.clone(), uri);
        for route in routes {
            request.headers.push(Name::ROUTE, route);
        }
        request
            .with(Name::MAX_FORWARDS, MAX_FORWARDS)
            .with(Name::FROM, &self.local)
            .with(Name::TO, &self.remote)
            .with(Name::CALL_ID, &self.key.call_id)
            .with(Name::CSEQ, CSeq::new(number, method))
    }

    /// The way for a request of this length: where the peer was heard last, and by TCP if it is too
    /// long for a datagram (§18.1.1); else where its Contact or its proxy is.
    pub(crate) fn route(&self, length: usize) -> Route {
        let long = length > MAX_DATAGRAM && !self.datagrams_only;
        let named = self.next_hop();
        match self.flow.transport {
            Transport::Udp if long => {
                let named = named.filter(|(transport, _)| !transport.is_secure());
                let remote = named.map_or(self.flow.remote, |(_, remote)| remote);
                let first = Flow { transport: Transport::Tcp, remote, ..self.flow };
                // The connection may never come about: the way that is known to work is not kept
                // waiting for long.
                Route { first, other: Some(self.flow), impatient: true }
            }
            Transport::Udp => Route::only(self.flow),
            Transport::Tcp => {
                let other = named.map(|(transport, remote)| {
                    let datagram = transport == Transport::Udp;
                    let transport = if datagram && long { Transport::Tcp } else { transport };
                    Flow { transport, remote, ..self.flow }
                });
                let other = other.filter(|other| *other != self.flow);
                Route { first: self.flow, other, impatient: false }
            }
            // What began where nobody reads along does not go on where somebody may.
            Transport::Tls => {
                let other = named.filter(|(transport, _)| *transport == Transport::Tls);
                let other = other.map(|(_, remote)| Flow { remote, ..self.flow });
                let other = other.filter(|other| *other != self.flow);
                Route { first: self.flow, other, impatient: false }
            }
            Transport::Ws | Transport::Wss => Route::only(self.flow),
        }
    }

    /// A request that no transaction is made for, an ACK, as it goes out.
    pub(crate) fn transmit(&self, mut request: Request, branch: &str) -> Transmit {
        request.headers.push_front(Name::VIA, via(self.flow, branch));
        Transmit { flow: self.flow, bytes: request.to_bytes() }
    }

    /// Sees to the Contact of an answer or request of ours: one that it has is ours from here on,
    /// else it gets the one we had.
    pub(crate) fn own_contact(&mut self, headers: &mut Headers) {
        match headers.contact() {
            Ok(Some(contact)) => self.contact = contact,
            Ok(None) | Err(_) => headers.set(Name::CONTACT, &self.contact),
        }
    }

    /// The address that the next hop's URI names, if it is an address (no resolver is asked).
    fn next_hop(&self) -> Option<(Transport, SocketAddr)> {
        let uri = self.route_set.first().map_or(&self.target, |route| &route.uri).as_sip()?;
        let transport = match uri.transport() {
            None | Some(uri::Transport::Udp | uri::Transport::Tcp) if uri.secure => Transport::Tls,
            None | Some(uri::Transport::Udp) => Transport::Udp,
            Some(uri::Transport::Tcp) => Transport::Tcp,
            Some(uri::Transport::Tls) => Transport::Tls,
            Some(uri::Transport::Ws | uri::Transport::Wss | uri::Transport::Other(_)) => {
                return None;
            }
        };
        let port = uri.port.unwrap_or(uri::Transport::from(transport).default_port());
        let remote = (uri.host.ip()?, port).into();
        // An unspecified or a group address is nobody's.
        let usable = |ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast();
        uri.host.ip().filter(|ip| usable(*ip)).map(|_| (transport, remote))
    }
}

/// Adds headers at the end.
pub(crate) fn append(headers: &mut Headers, more: &Headers) {
    for (name, value) in more.iter() {
        headers.push(name.clone(), value);
    }
}

/// The address of our end of a flow, as a Contact.
pub(crate) fn own_contact(flow: Flow) -> NameAddr {
    NameAddr::new(Uri::Sip(SipUri::at(flow.local).over(flow.transport)))
}

/// What a Contact gives as Request-URI: a SIP URI, without what may not stand there (§19.1.1).
fn target(contact: NameAddr) -> Option<Uri> {
    let Uri::Sip(mut uri) = contact.uri else { return None };
    uri.remove_param("method");
    uri.clear_headers();
    Some(Uri::Sip(uri))
}
