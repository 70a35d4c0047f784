//! The account document as Linphone takes it: its configuration in XML, fetched at each start. It
//! knows SIP alone.

use std::collections::BTreeMap;

use minidom::Element;
use minidom::rxml::{Namespace, NcName};

use super::{Account, BadAccount, Features, Password, Secrets, Sip, Transport, VERSION, fits};
use crate::identity::Aor;

impl Account {
    /// The XML, with `H(A1)` for MD5 where the account takes the password given: a clear one stays out.
    pub fn to_linphone(&self, ha1: Option<&str>) -> String {
        let mut config = Element::builder("config", NS);
        if let Some(sip) = &self.sip {
            let host = sip.proxy.as_deref().unwrap_or(sip.aor.host());
            let transport = sip.transports.first().copied().unwrap_or(Transport::Udp);
            let proxy = format!("<sip:{host};transport={}>", transport.as_str());
            let identity = match &self.name {
                Some(name) => format!("{} <{}>", quoted(name), sip.aor),
                None => sip.aor.to_string(),
            };
            let on = |on: bool| if on { "1" } else { "0" };
            let presence = on(self.features.sip_presence);
            config = config
                .append(section("sip", &[("default_proxy", "0")]))
                .append(section("net", &[("friendlist_subscription_enabled", presence)]))
                .append(section(
                    "proxy_0",
                    &[
                        ("reg_proxy", &proxy),
                        ("reg_route", &proxy),
                        ("reg_identity", &identity),
                        ("reg_expires", "3600"),
                        ("reg_sendregister", on(sip.register)),
                        ("publish", presence),
                    ],
                ));
            let (user, realm) = (sip.aor.user(), sip.realm.as_str());
            let mut account = vec![("username", user), ("userid", user), ("realm", realm)];
            account.extend([("domain", sip.aor.host()), ("algorithm", "MD5")]);
            if let Some(ha1) = ha1.filter(|_| sip.password == Password::Given) {
                account.push(("ha1", ha1));
            }
            config = config.append(section("auth_info_0", &account));
        }
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", String::from(&config.build()))
    }

    /// Reads the XML: the account that is the default, or the first. Linphone asks again with each
    /// start, which is `refresh_s` 0.
    pub fn from_linphone(text: &str) -> Result<(Self, Secrets), BadAccount> {
        fits(text)?;
        let unreadable = |why: &dyn ToString| BadAccount::Unreadable(why.to_string());
        let body = match text.trim_start().strip_prefix("<?xml") {
            Some(rest) => rest.split_once("?>").map_or("", |(_, body)| body),
            None => text,
        };
        let config: Element =
            body.trim().parse().map_err(|why: minidom::Error| unreadable(&why))?;
        if !config.is("config", NS) {
            return Err(unreadable(&"not a configuration of Linphone"));
        }
        let mut sections: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
        for section in config.children().filter(|child| child.is("section", NS)) {
            let entries = sections.entry(section.attr("name").unwrap_or_default()).or_default();
            for entry in section.children().filter(|child| child.is("entry", NS)) {
                entries.insert(entry.attr("name").unwrap_or_default(), entry.text());
            }
        }
        let value = |section: &str, name: &str| {
            sections.get(section).and_then(|entries| entries.get(name)).map(String::as_str)
        };
        let number = value("sip", "default_proxy").unwrap_or("0");
        let proxy = format!("proxy_{number}");
        let identity = value(&proxy, "reg_identity").ok_or(BadAccount::Empty)?;
        let (name, uri) = match identity.rsplit_once('<') {
            Some((name, rest)) => (unquoted(name.trim()), rest.split('>').next().unwrap_or(rest)),
            None => (None, identity),
        };
        let aor: Aor = uri.parse().map_err(|why| unreadable(&why))?;
        let route = value(&proxy, "reg_route").or(value(&proxy, "reg_proxy")).unwrap_or_default();
        let (host, transport) = route_of(route);
        // Its own credentials, if the document has any for this user.
        let auth = (0..MAX_ACCOUNTS)
            .map(|n| format!("auth_info_{n}"))
            .find(|section| value(section, "username") == Some(aor.user()));
        let of = |name| auth.as_deref().and_then(|section| value(section, name));
        let secrets = Secrets {
            xmpp: None,
            sip: of("passwd").map(str::to_owned),
            sip_ha1: of("ha1").map(str::to_owned),
        };
        let given = secrets.sip.is_some() || secrets.sip_ha1.is_some();
        let sip = Sip {
            realm: of("realm").unwrap_or(aor.host()).to_owned(),
            proxy: host.filter(|host| *host != aor.host()).map(str::to_owned),
            register: value(&proxy, "reg_sendregister") != Some("0"),
            transports: transport.into_iter().collect(),
            password: if given { Password::Given } else { Password::Own },
            aor,
        };
        let sip_presence = value(&proxy, "publish") == Some("1");
        let account = Self {
            version: VERSION,
            name,
            xmpp: None,
            sip: Some(sip),
            related: false,
            conference: None,
            features: Features { xmpp_calls: false, sip_chat: true, sip_presence },
            refresh_s: 0,
        };
        Ok((account, secrets))
    }
}

fn section(name: &str, entries: &[(&str, &str)]) -> Element {
    let entry = |(name, value): &(&str, &str)| {
        let mut entry = named("entry", name);
        set(&mut entry, "overwrite", "true");
        entry.append_text_node(legal(value));
        entry
    };
    let mut section = named("section", name);
    for element in entries.iter().map(entry) {
        section.append_child(element);
    }
    section
}

fn named(element: &str, name: &str) -> Element {
    let mut element = Element::bare(element, NS);
    set(&mut element, "name", name);
    element
}

fn set(element: &mut Element, name: &'static str, value: &str) {
    let name = NcName::try_from(name).expect("a literal that is an XML name");
    element.set_attr(Namespace::NONE, name, value);
}

/// The text without what XML cannot hold.
fn legal(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A display name (RFC 3261 §25.1).
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn unquoted(name: &str) -> Option<String> {
    let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut text = String::new();
    let mut chars = inner.unwrap_or(name).chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    (!text.is_empty()).then_some(text)
}

/// The host, with a port, and the transport of `<sip:HOST;transport=T>`.
fn route_of(route: &str) -> (Option<&str>, Option<Transport>) {
    let uri = route.trim().trim_start_matches('<').trim_end_matches('>');
    let Some(rest) = uri.strip_prefix("sip:").or_else(|| uri.strip_prefix("sips:")) else {
        return (None, None);
    };
    let mut parts = rest.split(';');
    let host = parts.next().filter(|host| !host.is_empty());
    let transport = parts.find_map(|part| Transport::parse(part.strip_prefix("transport=")?));
    (host, transport)
}

const NS: &str = "http://www.linphone.org/xsds/lpconfig.xsd";
/// Credentials in one document that are looked at.
const MAX_ACCOUNTS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_sip_account_comes_back() {
        let mut account = sample();
        let text = account.to_linphone(Some("0123456789abcdef0123456789abcdef"));
        let (read, secrets) = Account::from_linphone(&text).unwrap();
        // What Linphone has no words for.
        account.xmpp = None;
        account.related = false;
        account.conference = None;
        account.features.sip_chat = true;
        account.refresh_s = 0;
        account.sip.as_mut().unwrap().transports.truncate(1);
        assert_eq!(read, account);
        assert_eq!(secrets.sip_ha1.as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert!(!format!("{secrets:?}").contains("0123"));
        let without = account.to_linphone(None);
        let (read, secrets) = Account::from_linphone(&without).unwrap();
        assert_eq!((read.sip.unwrap().password, secrets), (Password::Own, Secrets::default()));
    }

    #[test]
    fn what_is_none_of_it_has_its_reason() {
        let check = |text: &str, expected: &str| {
            let why = Account::from_linphone(text).unwrap_err().to_string();
            assert!(why.contains(expected), "{text}: {why}");
        };
        check("", "not readable");
        check("<config/>", "not readable");
        check("<config xmlns='x'/>", "not readable");
        check("<config xmlns='http://www.linphone.org/xsds/lpconfig.xsd'/>", "no account");
        check("<!DOCTYPE a [<!ENTITY b 'c'>]><config/>", "not readable");
        let identity = |it: &str| {
            format!(
                "<config xmlns='{NS}'><section name='proxy_0'>
                 <entry name='reg_identity'>{it}</entry></section></config>"
            )
        };
        check(&identity("nobody"), "not readable");
        let (plain, _) = Account::from_linphone(&identity("sip:a@b")).unwrap();
        let sip = plain.sip.unwrap();
        assert_eq!((plain.name, sip.proxy, sip.register), (None, None, true));
    }
}
