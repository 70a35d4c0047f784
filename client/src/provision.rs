//! Where the two accounts come from (RFC 7081 §2): where to ask, whom to believe, when to ask again, and
//! what is then switched off in which account.
//!
//! The documents themselves are [`cusax::account`]'s; [`read`] reads any of their forms. The caller does
//! the fetching, by the rules that are data here: [`Place`] and [`follow`].

use std::net::IpAddr;
use std::time::Duration;

use cusax::account::{Account, BadAccount, Features, Secrets};

/// Where to ask, and what holds there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The URL.
    pub url: String,
    /// The name that the server's certificate has to be valid for (RFC 9110 §4.3.4); `None`: no
    /// certificate is needed, since the way there is inside this machine.
    pub certificate: Option<String>,
    /// Whether a password may be sent there before the person said so. Not where a redirection led to
    /// another host.
    pub password: bool,
}

/// Why a text is no place to ask at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no URL with a host, and no domain.
    Nonsense,
    /// It would show password and accounts to everyone on the way.
    NotEncrypted,
}

/// The places to ask at, in this order, for what somebody typed: a URL, a domain, or an address whose
/// domain counts. The first that answers with a document, or with 401, is the one.
pub fn places(typed: &str) -> Result<Vec<Place>, Unfit> {
    let typed = typed.trim();
    if typed.contains("://") {
        return Ok(vec![place(typed, true)?]);
    }
    let domain = typed.rsplit_once('@').map_or(typed, |(_, domain)| domain);
    let plain = |c: char| c.is_alphanumeric() || "-.:[]".contains(c);
    if domain.is_empty() || !domain.chars().all(plain) {
        return Err(Unfit::Nonsense);
    }
    let well_known = place(&format!("https://{domain}{WELL_KNOWN}"), true)?;
    let ip = host_of(domain).parse::<IpAddr>().is_ok();
    let by_name = (!ip).then(|| place(&format!("https://cusax.{domain}/provision"), true));
    std::iter::once(Ok(well_known)).chain(by_name).collect()
}

/// Where a redirection leads that came from `from`. To another host, a password goes only after the
/// person has seen its name.
pub fn follow(from: &Place, location: &str) -> Result<Place, Unfit> {
    let absolute = match location.strip_prefix('/') {
        Some(path) => {
            let (scheme, rest) = from.url.split_once("://").ok_or(Unfit::Nonsense)?;
            let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            match path.strip_prefix('/') {
                Some(other) => format!("{scheme}://{other}"),
                None => format!("{scheme}://{authority}/{path}"),
            }
        }
        None => location.to_owned(),
    };
    let mut to = place(&absolute, from.password)?;
    to.password &= authority_of(&to.url) == authority_of(&from.url);
    Ok(to)
}

fn place(url: &str, password: bool) -> Result<Place, Unfit> {
    let (scheme, _) = url.split_once("://").ok_or(Unfit::Nonsense)?;
    let authority = authority_of(url);
    let host = host_of(&authority).to_owned();
    let clean = !url.contains(|c: char| c.is_whitespace() || c.is_control());
    // A name before an @ is there to be taken for the host.
    if host.is_empty() || authority.contains('@') || !clean {
        return Err(Unfit::Nonsense);
    }
    let url = url.to_owned();
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok(Place { url, certificate: Some(host), password }),
        "http" if is_loopback(&host) => Ok(Place { url, certificate: None, password }),
        "http" => Err(Unfit::NotEncrypted),
        _ => Err(Unfit::Nonsense),
    }
}

fn authority_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest).to_ascii_lowercase()
}

fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Reads a document in whichever form it is: its media type counts, else how it begins.
pub fn read(media_type: &str, text: &str) -> Result<(Account, Secrets), BadAccount> {
    let media_type = media_type.split(';').next().unwrap_or(media_type).trim();
    let begins = text.trim_start().chars().next();
    if media_type == "application/json" || begins == Some('{') {
        Ok((Account::from_json(text)?, Secrets::default()))
    } else if media_type.ends_with("/xml") || begins == Some('<') {
        Account::from_linphone(text)
    } else {
        Account::from_jitsi(text)
    }
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// A document that was read; it asks to be asked for again after so many seconds, or with each
    /// start (0).
    Document {
        /// From the document.
        refresh_s: u64,
    },
    /// An HTTP status that is no document.
    Status {
        /// The status.
        code: u16,
        /// What Retry-After says, in seconds.
        retry_after_s: Option<u64>,
    },
    /// A document that cannot be read, or nothing at all.
    Nothing,
}

/// What to do next. The accounts that are set up stay as they are in either case: a service that cannot
/// be reached takes nothing away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask again after this time.
    AskAfter(Duration),
    /// Ask with the next start.
    AskAtStart,
    /// Ask the person for the password.
    AskPassword,
    /// Tell the person that the service does not know them any more, or their link is used; do not ask
    /// by oneself.
    Stop,
}

/// When to ask again, after `failures` times in a row without a document. `spread`, from 0 to 1, is
/// random: not all clients of a service are to come back at once.
pub fn next(came: Came, failures: u32, spread: f64) -> Next {
    let spread = if spread.is_nan() { 0.0 } else { spread.clamp(0.0, 1.0) };
    let soon = |least: u64| {
        let wait = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LONGEST);
        Next::AskAfter(
            wait.mul_f64(1.0 + spread / 2.0).max(Duration::from_secs(least)).min(LONGEST),
        )
    };
    match came {
        Came::Document { refresh_s: 0 } => Next::AskAtStart,
        Came::Document { refresh_s } => {
            let wait = Duration::from_secs(refresh_s).clamp(SHORTEST, LONGEST);
            Next::AskAfter(wait.mul_f64(1.0 - spread / 10.0).max(SHORTEST))
        }
        Came::Status { code: 401, .. } => Next::AskPassword,
        Came::Status { code: 403 | 404 | 410, .. } => Next::Stop,
        Came::Status { retry_after_s, .. } => soon(retry_after_s.unwrap_or(0)),
        Came::Nothing => soon(0),
    }
}

/// What an account offers to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// Calls.
    pub calls: bool,
    /// Messages.
    pub chat: bool,
    /// Presence.
    pub presence: bool,
}

/// What is on in the XMPP and in the SIP account (RFC 7081 §2): for related accounts, voice is SIP's and
/// the rest XMPP's, unless the service or the person says otherwise; an account that belongs to no other
/// keeps all that it has.
pub fn split(account: &Account, by_person: &Wishes) -> (Offers, Offers) {
    let all = Offers { calls: true, chat: true, presence: true };
    if !account.related {
        return (all, all);
    }
    let Features { xmpp_calls, sip_chat, sip_presence } = account.features;
    let xmpp = Offers { calls: by_person.xmpp_calls.unwrap_or(xmpp_calls), ..all };
    let sip = Offers {
        calls: true,
        chat: by_person.sip_chat.unwrap_or(sip_chat),
        presence: by_person.sip_presence.unwrap_or(sip_presence),
    };
    (xmpp, sip)
}

/// What the person says of the features; it counts more than what the service says. Of what it counts,
/// [`Layers`](crate::route::Layers) tell: the device, an account, a domain, a contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Calls over XMPP.
    pub xmpp_calls: Option<bool>,
    /// Messages over SIP.
    pub sip_chat: Option<bool>,
    /// Presence over SIP.
    pub sip_presence: Option<bool>,
}

/// Where a domain may say where its service is; no registered name (RFC 8615).
const WELL_KNOWN: &str = "/.well-known/cusax";
const FIRST_RETRY: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use cusax::account::{Password, Sip, Transport, VERSION, Xmpp};

    use super::*;

    #[test]
    fn asks_where_nobody_listens_in() {
        let check = |typed: &str, expected: Result<&[(&str, Option<&str>)], Unfit>| {
            let found = places(typed);
            let found = found.as_ref().map(|all| {
                let each = all.iter().map(|one| (one.url.as_str(), one.certificate.as_deref()));
                each.collect::<Vec<_>>()
            });
            assert_eq!(found.as_deref().map_err(|why| **why), expected, "{typed}");
        };
        let both: &[_] = &[
            ("https://example.org/.well-known/cusax", Some("example.org")),
            ("https://cusax.example.org/provision", Some("cusax.example.org")),
        ];
        check("example.org", Ok(both));
        check(" alice@example.org ", Ok(both));
        check("192.0.2.1", Ok(&[("https://192.0.2.1/.well-known/cusax", Some("192.0.2.1"))]));
        check(
            "https://p.example.org:8443/x?y",
            Ok(&[("https://p.example.org:8443/x?y", Some("p.example.org"))]),
        );
        check("HTTPS://p.example.org", Ok(&[("HTTPS://p.example.org", Some("p.example.org"))]));
        check("http://127.0.0.1:8088/provision", Ok(&[("http://127.0.0.1:8088/provision", None)]));
        check("http://[::1]/provision", Ok(&[("http://[::1]/provision", None)]));
        check("http://localhost/x", Ok(&[("http://localhost/x", None)]));
        check("http://example.org/provision", Err(Unfit::NotEncrypted));
        check("http://localhost.example.org/", Err(Unfit::NotEncrypted));
        for nonsense in [
            "",
            "@",
            "a b",
            "ftp://x/",
            "https://",
            "https:///x",
            "https://a@b/",
            "https://a/ b",
            "x/y",
        ] {
            check(nonsense, Err(Unfit::Nonsense));
        }
    }

    #[test]
    fn a_redirection_takes_no_password_to_another_host() {
        let from = &places("https://example.org/.well-known/cusax").unwrap()[0];
        let check = |location: &str, expected: Result<(&str, bool), Unfit>| {
            let to = follow(from, location);
            let to = to.as_ref().map(|to| (to.url.as_str(), to.password)).map_err(|why| *why);
            assert_eq!(to, expected, "{location}");
        };
        check("/provision", Ok(("https://example.org/provision", true)));
        check("https://EXAMPLE.org/p", Ok(("https://EXAMPLE.org/p", true)));
        check("https://example.org:444/p", Ok(("https://example.org:444/p", false)));
        check("https://p.example.org/p", Ok(("https://p.example.org/p", false)));
        check("//evil.example/p", Ok(("https://evil.example/p", false)));
        check("http://example.org/p", Err(Unfit::NotEncrypted));
        check("p", Err(Unfit::Nonsense));
        check("", Err(Unfit::Nonsense));
        // Not even by way of back.
        let away = follow(from, "https://p.example.org/p").unwrap();
        assert!(!follow(&away, "https://example.org/p").unwrap().password);
    }

    fn account(related: bool, features: Features) -> Account {
        Account {
            version: VERSION,
            name: Some("Alice".to_owned()),
            xmpp: Some(Xmpp {
                jid: "alice@example.org".parse().unwrap(),
                server: None,
                password: Password::Own,
            }),
            sip: Some(Sip {
                aor: "sip:alice@example.org".parse().unwrap(),
                realm: "example.org".to_owned(),
                proxy: None,
                register: true,
                transports: vec![Transport::Tcp],
                password: Password::Given,
            }),
            related,
            conference: None,
            features,
            refresh_s: 3_600,
        }
    }

    #[test]
    fn every_form_is_read() {
        let account = account(true, Features::default());
        let check = |media_type: &str, text: &str, xmpp: bool| {
            let (read, _) = read(media_type, text).unwrap();
            assert_eq!(
                (read.xmpp.is_some(), read.sip),
                (xmpp, account.sip.clone()),
                "{media_type}"
            );
        };
        let own = account.to_json();
        check("application/json; charset=utf-8", &own, true);
        check("", &own, true);
        let linphone = account.to_linphone(Some("00"));
        check("application/xml", &linphone, false);
        check("text/plain", &linphone, false);
        let jitsi = account.to_jitsi(Some("pw"));
        check("text/plain; charset=us-ascii", &jitsi, true);
        for html in ["<html></html>", "", "Not Found"] {
            assert!(read("text/html", html).is_err(), "{html}");
        }
    }

    #[test]
    fn asks_again_in_time_and_takes_nothing_away_meanwhile() {
        let check = |came, failures, spread, expected| {
            assert_eq!(next(came, failures, spread), expected, "{came:?} {failures} {spread}");
        };
        let after = |seconds| Next::AskAfter(Duration::from_secs(seconds));
        let document = |refresh_s| Came::Document { refresh_s };
        let status = |code, retry_after_s| Came::Status { code, retry_after_s };
        check(document(0), 0, 0.5, Next::AskAtStart);
        check(document(1), 0, 0.0, after(60));
        check(document(86_400), 0, 0.0, after(86_400));
        check(document(86_400), 0, 1.0, after(77_760));
        check(document(u64::MAX), 0, 0.0, after(604_800));
        check(status(401, None), 0, 0.0, Next::AskPassword);
        for code in [403, 404, 410] {
            check(status(code, Some(5)), 0, 0.0, Next::Stop);
        }
        check(status(503, None), 0, 0.0, after(30));
        check(status(503, None), 0, 1.0, after(45));
        check(status(429, Some(600)), 0, 0.0, after(600));
        check(status(429, Some(u64::MAX)), 0, 0.0, after(604_800));
        check(Came::Nothing, 3, 0.0, after(240));
        check(Came::Nothing, u32::MAX, 1.0, after(604_800));
        check(Came::Nothing, 0, f64::INFINITY, after(45));
        check(Came::Nothing, 0, f64::NAN, after(30));
    }

    #[test]
    fn related_accounts_share_the_work() {
        let offers = |calls, chat, presence| Offers { calls, chat, presence };
        let all = offers(true, true, true);
        let nobody = Wishes::default();
        let off = Features::default();
        assert_eq!(split(&account(false, off), &nobody), (all, all));
        let expected = (offers(false, true, true), offers(true, false, false));
        assert_eq!(split(&account(true, off), &nobody), expected);
        let on = Features { xmpp_calls: true, sip_chat: true, sip_presence: true };
        assert_eq!(split(&account(true, on), &nobody), (all, all));
        let wishes = Wishes { xmpp_calls: Some(true), sip_chat: Some(false), sip_presence: None };
        let expected = (all, offers(true, false, true));
        assert_eq!(split(&account(true, on), &wishes), expected);
    }
}
