//! Through which account to call or chat (RFC 7081 §3.4): at once where that is clear, and else by asking.
//!
//! | what there is | what happens |
//! | --- | --- |
//! | one account that can call | it calls |
//! | the contact's XMPP account has a related SIP account | that one calls, the XMPP account chats |
//! | several that belong to no other | the person is asked; Jingle is one of the answers |
//!
//! What the person has said counts before all of this: of the contact, else of the domain, else of the
//! account, else of the device ([`Layers`]).

use std::collections::BTreeMap;

use cusax_sip::uri::Uri;
use jid::BareJid;

use crate::number::Address;
use crate::provision::Offers;
use crate::reach::Reach;

/// An account of the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, unique among the accounts.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// What is switched on in it ([`split`](crate::provision::split)).
    pub offers: Offers,
    /// The account that is the other half of its service, if it is known to have one.
    pub related: Option<String>,
}

/// What an account speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIP, at this domain.
    Sip {
        /// Numbers are called there.
        domain: String,
    },
    /// XMPP.
    Xmpp,
}

/// A way to call somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Through which account.
    pub account: String,
    /// To what.
    pub to: Destination,
    /// Video may be offered too.
    pub video: bool,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A SIP address.
    Sip(Uri),
    /// A contact, by Jingle (XEP-0166).
    Jingle(BareJid),
}

/// How to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// At once; if it fails, by the next of these, which differ in the address alone.
    Dial(Vec<Route>),
    /// The person chooses one of these; each account stands there with the contact's first address.
    Ask(Vec<Route>),
    /// Not at all.
    None(Why),
}

/// Why somebody cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No account can call.
    NoAccount,
    /// The contact has no address that an account can call.
    NoAddress,
    /// The person wants no calls to them.
    Unwanted,
}

/// What the person says of how to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// Through this account, if it can.
    Account(String),
    /// Always ask.
    Ask,
    /// Not at all.
    Never,
}

/// Something that the person says in general or of something in particular; the most particular counts
/// (RFC 7081 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers<T> {
    /// On this device.
    pub device: Option<T>,
    /// Of an account.
    pub accounts: BTreeMap<String, T>,
    /// Of everybody at a domain, in lower case.
    pub domains: BTreeMap<String, T>,
    /// Of a contact.
    pub contacts: BTreeMap<BareJid, T>,
}

impl<T> Default for Layers<T> {
    fn default() -> Self {
        let (accounts, domains, contacts) = Default::default();
        Self { device: None, accounts, domains, contacts }
    }
}

impl<T> Layers<T> {
    /// What counts for a contact of an account, or for the account itself.
    pub fn of(&self, account: &str, contact: Option<&BareJid>) -> Option<&T> {
        let by_contact = contact.and_then(|jid| self.contacts.get(jid));
        let domain = contact.map(|jid| jid.domain().as_str().to_ascii_lowercase());
        by_contact
            .or_else(|| self.domains.get(&domain?))
            .or_else(|| self.accounts.get(account))
            .or(self.device.as_ref())
    }
}

/// Decides how to call a contact of the roster of `source`, an XMPP account.
pub fn call(
    contact: &BareJid,
    source: &str,
    reach: &Reach,
    accounts: &[Account],
    preferences: &Layers<Prefer>,
) -> Choice {
    let preferred = preferences.of(source, Some(contact));
    if preferred == Some(&Prefer::Never) {
        return Choice::None(Why::Unwanted);
    }
    let callers: Vec<_> = accounts.iter().filter(|account| account.offers.calls).collect();
    if callers.is_empty() {
        return Choice::None(Why::NoAccount);
    }
    // Every account with every address that it can call; Jingle calls the contact by their roster's account.
    let routes = |account: &Account| -> Vec<Route> {
        match &account.kind {
            Kind::Sip { domain } => reach
                .addresses
                .iter()
                .filter_map(|one| route(account, &one.address, domain, one.video))
                .collect(),
            Kind::Xmpp if account.id == source => {
                let to = Destination::Jingle(contact.clone());
                vec![Route { account: account.id.clone(), to, video: true }]
            }
            Kind::Xmpp => vec![],
        }
    };
    let ways: Vec<_> = callers.into_iter().map(|account| (account, routes(account))).collect();
    let ways: Vec<_> = ways.into_iter().filter(|(_, routes)| !routes.is_empty()).collect();
    let by = |id: &str| {
        let way = ways.iter().find(|(account, _)| account.id == id);
        way.map(|(_, routes)| Choice::Dial(routes.clone()))
    };
    if let Some(Prefer::Account(id)) = preferred
        && let Some(choice) = by(id)
    {
        return choice;
    }
    let first = || ways.iter().filter_map(|(_, routes)| routes.first().cloned()).collect();
    if preferred == Some(&Prefer::Ask) && !ways.is_empty() {
        return Choice::Ask(first());
    }
    let source = accounts.iter().find(|account| account.id == source);
    if let Some(related) = source.and_then(|source| source.related.as_deref())
        && let Some(choice) = by(related)
    {
        return choice;
    }
    match &ways[..] {
        [] => Choice::None(Why::NoAddress),
        [(_, routes)] => Choice::Dial(routes.clone()),
        [..] => Choice::Ask(first()),
    }
}

/// Decides how to call an address that was typed or chosen from somewhere else than the roster.
pub fn dial(address: &Address, accounts: &[Account], preferences: &Layers<Prefer>) -> Choice {
    let callers = accounts.iter().filter(|account| account.offers.calls);
    let sip: Vec<_> = callers
        .filter_map(|account| match &account.kind {
            Kind::Sip { domain } => route(account, address, domain, false),
            Kind::Xmpp => None,
        })
        .collect();
    let preferred = |route: &&Route| {
        preferences.of(&route.account, None) == Some(&Prefer::Account(route.account.clone()))
    };
    match (&sip[..], sip.iter().find(preferred)) {
        ([], _) => Choice::None(Why::NoAccount),
        (_, Some(route)) => Choice::Dial(vec![route.clone()]),
        ([route], None) => Choice::Dial(vec![route.clone()]),
        ([..], None) => Choice::Ask(sip),
    }
}

/// The account to write to a caller or contact with who was reached through `account`: the XMPP account of
/// the same service, else the account itself if it has chat.
pub fn chat<'a>(account: &str, accounts: &'a [Account]) -> Option<&'a Account> {
    let one = accounts.iter().find(|one| one.id == account)?;
    let related = one.related.as_deref();
    let other = accounts.iter().find(|other| related == Some(other.id.as_str()));
    [Some(one), other]
        .into_iter()
        .flatten()
        .filter(|one| one.offers.chat)
        .max_by_key(|one| one.kind == Kind::Xmpp)
}

fn route(account: &Account, address: &Address, domain: &str, video: bool) -> Option<Route> {
    let to = Destination::Sip(address.uri(domain)?);
    Some(Route { account: account.id.clone(), to, video })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::{Known, Reachable};

    const BOB: &str = "bob@x.test";

    /// `sip:home`, `xmpp:home`, …: an account; `!` behind it switches its calls off, `=other` relates it.
    fn accounts(text: &str) -> Vec<Account> {
        let account = |word: &str| {
            let (word, related) =
                word.split_once('=').map_or((word, None), |(word, other)| (word, Some(other)));
            let calls = !word.ends_with('!');
            let id = word.trim_end_matches('!').to_owned();
            let kind = match id.strip_prefix("sip:") {
                Some(name) => Kind::Sip { domain: format!("{name}.test") },
                None => Kind::Xmpp,
            };
            let chat = kind == Kind::Xmpp || related.is_none();
            let offers = Offers { calls, chat, presence: chat };
            Account { id, kind, offers, related: related.map(str::to_owned) }
        };
        text.split_whitespace().map(account).collect()
    }

    fn reach(addresses: &[Address]) -> Reach {
        let one = |address: &Address| Reachable {
            address: address.clone(),
            video: false,
            known: Known::Card,
            hinted: false,
        };
        Reach { addresses: addresses.iter().map(one).collect(), unconfirmed: vec![] }
    }

    fn told(choice: Choice) -> String {
        let routes = |routes: Vec<Route>| {
            let routes = routes.into_iter().map(|route| match route.to {
                Destination::Sip(uri) => format!("{} > {uri}", route.account),
                Destination::Jingle(jid) => format!("{} > {jid}", route.account),
            });
            routes.collect::<Vec<_>>().join(", ")
        };
        match choice {
            Choice::Dial(all) => format!("dial {}", routes(all)),
            Choice::Ask(all) => format!("ask {}", routes(all)),
            Choice::None(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn dials_where_it_is_clear_and_asks_where_it_is_not() {
        let bob = BareJid::new(BOB).unwrap();
        let sip = Address::Sip("sip:bob@pbx.test".parse().unwrap());
        let number = Address::Number("4930222222".to_owned());
        let both = reach(&[sip.clone(), number.clone()]);
        let none = Layers::default();
        let check = |have: &str, reach: &Reach, preferences: &Layers<Prefer>, expected: &str| {
            let choice = call(&bob, "xmpp:home", reach, &accounts(have), preferences);
            assert_eq!(told(choice), expected, "{have}");
        };
        // One account that can call, whatever else there is (§3.4, strategy 6).
        let one =
            "dial sip:home > sip:bob@pbx.test, sip:home > sip:+4930222222@home.test;user=phone";
        check("xmpp:home! sip:home", &both, &none, one);
        check("xmpp:home! sip:home!", &both, &none, "NoAccount");
        check("xmpp:home! sip:home", &reach(&[]), &none, "NoAddress");
        check("xmpp:home", &both, &none, "dial xmpp:home > bob@x.test");
        check("xmpp:home", &reach(&[]), &none, "dial xmpp:home > bob@x.test");
        // Related: SIP of the same service, though others could (§3.4).
        let related = "xmpp:home=sip:home sip:home=xmpp:home sip:work xmpp:other";
        check(related, &both, &none, one);
        check("xmpp:home!=sip:home sip:home=xmpp:home sip:work", &both, &none, one);
        // Without an address Jingle is what is left, if it is on.
        check(related, &reach(&[]), &none, "dial xmpp:home > bob@x.test");
        // The related account cannot call: the choice among the others.
        let lame = "xmpp:home=sip:home sip:home!=xmpp:home sip:work";
        let sips = reach(std::slice::from_ref(&sip));
        check(lame, &sips, &none, "ask xmpp:home > bob@x.test, sip:work > sip:bob@pbx.test");
        // Several unrelated: the choice, Jingle of the roster's account among it (strategy 7).
        let several = "xmpp:home sip:home sip:work xmpp:other";
        let ask =
            "ask xmpp:home > bob@x.test, sip:home > sip:bob@pbx.test, sip:work > sip:bob@pbx.test";
        check(several, &both, &none, ask);
        let off = "xmpp:home! sip:home sip:work";
        check(off, &both, &none, "ask sip:home > sip:bob@pbx.test, sip:work > sip:bob@pbx.test");

        // What the person says, the most particular first.
        let account = |id: &str| Prefer::Account(id.to_owned());
        let device = Layers { device: Some(account("sip:work")), ..Layers::default() };
        let work = "dial sip:work > sip:bob@pbx.test";
        check(several, &sips, &device, work);
        check(related, &sips, &device, work);
        let mut layers = device.clone();
        layers.accounts.insert("xmpp:home".to_owned(), account("sip:home"));
        check(several, &sips, &layers, "dial sip:home > sip:bob@pbx.test");
        layers.domains.insert("x.test".to_owned(), Prefer::Ask);
        check(several, &sips, &layers, ask);
        layers.contacts.insert(bob.clone(), Prefer::Never);
        check(several, &sips, &layers, "Unwanted");
        layers.contacts.insert(bob.clone(), account("xmpp:home"));
        check(several, &sips, &layers, "dial xmpp:home > bob@x.test");
        // An account that cannot is passed over.
        layers.contacts.insert(bob.clone(), account("sip:gone"));
        check(several, &sips, &layers, ask);
    }

    #[test]
    fn a_number_that_was_typed_goes_through_a_telephone() {
        let number = Address::Number("4930222222".to_owned());
        let check = |have: &str, preferences: &Layers<Prefer>, expected: &str| {
            let choice = dial(&number, &accounts(have), preferences);
            assert_eq!(told(choice), expected, "{have}");
        };
        let none = Layers::default();
        let home = "sip:home > sip:+4930222222@home.test;user=phone";
        let work = "sip:work > sip:+4930222222@work.test;user=phone";
        check("xmpp:home sip:home", &none, &format!("dial {home}"));
        check("xmpp:home", &none, "NoAccount");
        check("sip:home sip:work", &none, &format!("ask {home}, {work}"));
        let account = Prefer::Account("sip:work".to_owned());
        let preferences = Layers { device: Some(account), ..Layers::default() };
        check("sip:home sip:work", &preferences, &format!("dial {work}"));
    }

    #[test]
    fn chat_goes_through_the_chat_account_of_the_service() {
        let check = |have: &str, through: &str, expected: Option<&str>| {
            let accounts = accounts(have);
            assert_eq!(chat(through, &accounts).map(|one| one.id.as_str()), expected, "{have}");
        };
        let related = "xmpp:home=sip:home sip:home=xmpp:home sip:work";
        check(related, "sip:home", Some("xmpp:home"));
        check(related, "xmpp:home", Some("xmpp:home"));
        // An account that belongs to no other has all that it has.
        check(related, "sip:work", Some("sip:work"));
        check(related, "sip:gone", None);
        check("sip:home=xmpp:gone", "sip:home", None);
    }
}
