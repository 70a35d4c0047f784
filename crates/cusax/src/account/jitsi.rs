//! The account document as Jitsi desktop takes it: Java properties, fetched at each start. Its SIP
//! account has a property that names the XMPP account it belongs to.
//!
//! Its switch for messages over SIP is one for all SIP accounts of the client.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{
    Account, BadAccount, Features, Password, Secrets, Sip, Transport, VERSION, Xmpp, fits,
    host_port,
};

impl Account {
    /// The properties. A password is written for an account that takes the one given, if there is one.
    pub fn to_jitsi(&self, given: Option<&str>) -> String {
        let mut lines = String::new();
        let mut put = |key: &str, value: &str| {
            let _ = writeln!(lines, "{}={}", escaped(key), escaped(value));
        };
        put("provisioning.ALLOW_PREFIX", &format!("{JABBER}|{SIP}"));
        let name = self.name.as_deref();
        if let Some(xmpp) = &self.xmpp {
            let key = |name: &str| format!("{JABBER}.{XMPP_NODE}.{name}");
            let (jid, domain) = (xmpp.jid.to_string(), xmpp.jid.domain().to_string());
            put(&format!("{JABBER}.{XMPP_NODE}"), XMPP_NODE);
            put(&key("PROTOCOL_NAME"), "Jabber");
            put(&key("ACCOUNT_UID"), &format!("Jabber:{jid}@{domain}"));
            put(&key("USER_ID"), &jid);
            let server = xmpp.server.as_deref().map(host_port);
            put(&key("SERVER_ADDRESS"), server.map_or(&domain, |(host, _)| host));
            put(&key("IS_SERVER_OVERRIDDEN"), word(server.is_some()));
            if let Some(port) = server.and_then(|(_, port)| port) {
                put(&key("SERVER_PORT"), port);
            }
            put(&key("ALLOW_NON_SECURE"), word(false));
            put(&key("CALLING_DISABLED"), word(!self.features.xmpp_calls));
            if let Some(name) = name {
                put(&key("DISPLAY_NAME"), name);
            }
            if let Some(given) = given.filter(|_| xmpp.password == Password::Given) {
                put(&key("PASSWORD"), given);
            }
        }
        if let Some(sip) = &self.sip {
            let key = |name: &str| format!("{SIP}.{SIP_NODE}.{name}");
            let (user, host) = (sip.aor.user(), sip.aor.host());
            put(&format!("{SIP}.{SIP_NODE}"), SIP_NODE);
            put(&key("PROTOCOL_NAME"), "SIP");
            put(&key("ACCOUNT_UID"), &format!("SIP:{user}@{host}"));
            put(&key("USER_ID"), &format!("{user}@{host}"));
            put(&key("SERVER_ADDRESS"), host);
            put(&key("AUTHORIZATION_NAME"), user);
            match sip.proxy.as_deref().map(host_port) {
                Some((proxy, port)) => {
                    put(&key("PROXY_AUTO_CONFIG"), word(false));
                    put(&key("PROXY_ADDRESS"), proxy);
                    if let Some(port) = port {
                        put(&key("PROXY_PORT"), port);
                    }
                }
                None => put(&key("PROXY_AUTO_CONFIG"), word(true)),
            }
            if let Some(transport) = sip.transports.first() {
                put(&key("PREFERRED_TRANSPORT"), &transport.as_str().to_ascii_uppercase());
            }
            put(&key("IS_PRESENCE_ENABLED"), word(self.features.sip_presence));
            put(&format!("{SIP}.MESSAGING_DISABLED"), word(!self.features.sip_chat));
            if let Some(name) = name {
                put(&key("DISPLAY_NAME"), name);
            }
            if let Some(given) = given.filter(|_| sip.password == Password::Given) {
                put(&key("PASSWORD"), given);
            }
            if self.related && self.xmpp.is_some() {
                put(&key("cusax.XMPP_ACCOUNT_ID"), XMPP_NODE);
            }
        }
        lines
    }

    /// Reads properties: the first XMPP account, and the SIP account that belongs to it, or the first.
    /// Jitsi asks again with each start, which is `refresh_s` 0.
    pub fn from_jitsi(text: &str) -> Result<(Self, Secrets), BadAccount> {
        fits(text)?;
        let properties = read(text);
        let nodes = |prefix: &str| -> Vec<String> {
            let below =
                properties.keys().filter_map(|key| key.strip_prefix(prefix)?.strip_prefix('.'));
            below
                .filter(|node| node.starts_with("acc") && !node.contains('.'))
                .map(str::to_owned)
                .collect()
        };
        let value = |prefix: &str, node: &str, name: &str| {
            properties.get(&format!("{prefix}.{node}.{name}")).map(String::as_str)
        };
        let unreadable = |what: &str| BadAccount::Unreadable(what.to_owned());
        let (mut secrets, mut features) = (Secrets::default(), Features::default());

        let xmpp_node = nodes(JABBER).into_iter().next();
        let xmpp = match &xmpp_node {
            Some(node) => {
                let of = |name| value(JABBER, node, name);
                let jid = of("USER_ID").and_then(|jid| jid.parse().ok());
                let jid: jid::BareJid =
                    jid.ok_or_else(|| unreadable("USER_ID of the XMPP account"))?;
                secrets.xmpp = of("PASSWORD").map(str::to_owned);
                features.xmpp_calls = of("CALLING_DISABLED") != Some("true");
                let host =
                    of("SERVER_ADDRESS").filter(|_| of("IS_SERVER_OVERRIDDEN") == Some("true"));
                let server = host.map(|host| joined(host, of("SERVER_PORT")));
                Some(Xmpp { jid, server, password: whose(secrets.xmpp.as_ref()) })
            }
            None => None,
        };
        let belongs = |node: &String| {
            let named = value(SIP, node, "cusax.XMPP_ACCOUNT_ID");
            named.zip(xmpp_node.as_deref()).is_some_and(|(named, node)| node.ends_with(named))
        };
        let mut sip_nodes = nodes(SIP);
        let related = sip_nodes.iter().position(belongs);
        let sip_node =
            (!sip_nodes.is_empty()).then(|| sip_nodes.swap_remove(related.unwrap_or_default()));
        let sip = match &sip_node {
            Some(node) => {
                let of = |name| value(SIP, node, name);
                let aor = of("USER_ID").and_then(|aor| aor.parse().ok());
                let aor: crate::identity::Aor =
                    aor.ok_or_else(|| unreadable("USER_ID of the SIP account"))?;
                secrets.sip = of("PASSWORD").map(str::to_owned);
                features.sip_presence = of("IS_PRESENCE_ENABLED") != Some("false");
                let disabled = properties.get(&format!("{SIP}.MESSAGING_DISABLED"));
                features.sip_chat = disabled.map(String::as_str) != Some("true");
                let proxy =
                    of("PROXY_ADDRESS").filter(|_| of("PROXY_AUTO_CONFIG") == Some("false"));
                Some(Sip {
                    realm: aor.host().to_owned(),
                    proxy: proxy.map(|host| joined(host, of("PROXY_PORT"))),
                    register: true,
                    transports: of("PREFERRED_TRANSPORT")
                        .and_then(Transport::parse)
                        .into_iter()
                        .collect(),
                    password: whose(secrets.sip.as_ref()),
                    aor,
                })
            }
            None => None,
        };
        let name =
            [(JABBER, &xmpp_node), (SIP, &sip_node)].into_iter().find_map(|(prefix, node)| {
                value(prefix, node.as_deref()?, "DISPLAY_NAME").map(str::to_owned)
            });
        let related = related.is_some();
        let account = Self {
            version: VERSION,
            name,
            xmpp,
            sip,
            related,
            conference: None,
            features,
            refresh_s: 0,
        };
        Ok((account.checked()?, secrets))
    }
}

fn whose(told: Option<&String>) -> Password {
    if told.is_some() { Password::Given } else { Password::Own }
}

fn joined(host: &str, port: Option<&str>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

const fn word(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

/// ASCII in which nothing ends the line or the key, as `java.util.Properties` reads it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b @ (b'\\' | b':' | b'=' | b'#' | b'!')) => out.extend(['\\', char::from(b)]),
            Ok(b @ 0x21..=0x7e) => out.push(char::from(b)),
            Ok(_) | Err(_) => {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// Reads `java.util.Properties`: comments, lines that go on, escapes. What is wrong is passed over.
fn read(text: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.starts_with(['#', '!']) {
            continue;
        }
        while line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            line.pop();
            line.push_str(lines.next().unwrap_or_default().trim_start());
        }
        let mut escape = false;
        let end = line.find(|c: char| {
            let ends = !escape && (c == '=' || c == ':' || c.is_ascii_whitespace());
            escape = !escape && c == '\\';
            ends
        });
        let (key, rest) = line.split_at(end.unwrap_or(line.len()));
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
        if !key.is_empty() {
            properties.insert(unescaped(key), unescaped(value));
        }
    }
    properties
}

fn unescaped(text: &str) -> String {
    let mut units = vec![];
    let mut chars = text.chars();
    let push = |units: &mut Vec<u16>, c: char| units.extend(c.encode_utf16(&mut [0; 2]).iter());
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut units, c);
            continue;
        }
        match chars.next() {
            Some('u') => {
                let digits: String = chars.clone().take(4).collect();
                match u16::from_str_radix(&digits, 16) {
                    Ok(unit) if digits.len() == 4 => {
                        units.push(unit);
                        chars.nth(3);
                    }
                    Ok(_) | Err(_) => push(&mut units, 'u'),
                }
            }
            Some('t') => push(&mut units, '\t'),
            Some('n') => push(&mut units, '\n'),
            Some('r') => push(&mut units, '\r'),
            Some('f') => push(&mut units, '\u{c}'),
            Some(other) => push(&mut units, other),
            None => {}
        }
    }
    String::from_utf16_lossy(&units)
}

const JABBER: &str = "net.java.sip.communicator.impl.protocol.jabber";
const SIP: &str = "net.java.sip.communicator.impl.protocol.sip";
/// The same for everybody: who is provisioned again finds the account changed, and not a second one.
const XMPP_NODE: &str = "acc7081xmpp";
const SIP_NODE: &str = "acc7081sip";

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn both_accounts_come_back_with_their_relation() {
        let mut account = sample();
        let text = account.to_jitsi(Some("p w=\\ü\n"));
        let (read, secrets) = Account::from_jitsi(&text).unwrap();
        // What Jitsi has no words for.
        account.conference = None;
        account.refresh_s = 0;
        account.sip.as_mut().unwrap().transports.truncate(1);
        assert_eq!(read, account);
        assert_eq!((secrets.sip.as_deref(), secrets.xmpp), (Some("p w=\\ü\n"), None));
        assert!(text.is_ascii() && !text.contains("${"), "{text}");
        assert!(!account.to_jitsi(None).contains("PASSWORD"));
        account.related = false;
        assert!(!account.to_jitsi(None).contains("cusax"));
    }

    #[test]
    fn one_account_alone_is_related_to_none() {
        let account = Account { xmpp: None, ..sample() };
        let (read, _) = Account::from_jitsi(&account.to_jitsi(None)).unwrap();
        assert!(read.xmpp.is_none() && !read.related);
        let account = Account { sip: None, ..sample() };
        let (read, _) = Account::from_jitsi(&account.to_jitsi(None)).unwrap();
        assert!(read.sip.is_none() && !read.related && read.xmpp.is_some());
    }

    /// What other services write.
    #[test]
    fn properties_are_read_as_java_does() {
        let text = "# comment\n! another\n\
            net.java.sip.communicator.impl.protocol.sip.acc2 acc2\n\
            net.java.sip.communicator.impl.protocol.sip.acc2.USER_ID : bob\\\n   @example.org\n\
            net.java.sip.communicator.impl.protocol.sip.acc3=acc3\n\
            net.java.sip.communicator.impl.protocol.sip.acc3.USER_ID=alice\\u0040example.org\n\
            net.java.sip.communicator.impl.protocol.sip.acc3.cusax.XMPP_ACCOUNT_ID=acc9\n\
            net.java.sip.communicator.impl.protocol.jabber.acc9=acc9\n\
            net.java.sip.communicator.impl.protocol.jabber.acc9.USER_ID=alice@example.org\n";
        let (read, _) = Account::from_jitsi(text).unwrap();
        assert_eq!(read.sip.as_ref().unwrap().aor.user(), "alice", "the one that belongs to it");
        assert!(read.related && read.features.sip_chat && read.features.xmpp_calls);
        let (bob, _) = Account::from_jitsi(&text.replace("cusax.XMPP", "x")).unwrap();
        assert_eq!(bob.sip.unwrap().aor.user(), "bob");
        for bad in ["", "x=y", "\\", "=", "\\u12", "a\\"] {
            assert_eq!(Account::from_jitsi(bad), Err(BadAccount::Empty), "{bad}");
        }
        let nobody = "net.java.sip.communicator.impl.protocol.sip.acc2=acc2";
        assert!(matches!(Account::from_jitsi(nobody), Err(BadAccount::Unreadable(_))));
    }
}
