//! Contacts: who there is, and where and how each can be called.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use cusax_client::caller::{Book, Card, Contact};
use cusax_client::connections::{Fault, Side};
use cusax_client::cost::{Ask, Cue, Tariff, cues};
use cusax_client::driver::Lost;
use cusax_client::driver::chat::{Chat, Event};
use cusax_client::number::{Address, Country, Dialling};
use cusax_client::provision::{Wishes, split};
use cusax_client::reach::{Reach, reach};
use cusax_client::room;
use cusax_client::route::{self, Account, Choice, Destination, Kind, Layers, Why};
use cusax_sip::uri::Uri;
use jid::BareJid;
use minidom::Element;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use crate::account::Saved;
use crate::exit::Exit;
use crate::view::plain;

/// `cusax contacts`.
pub(crate) async fn list(saved: &Saved, json: bool) -> anyhow::Result<Exit> {
    let book = match fetch(saved, None).await? {
        Ok(book) => book,
        Err(lost) => return Ok(failed(&lost)),
    };
    let dialling = dialling(saved, "");
    for (jid, contact) in &book.contacts {
        let reach = reach(jid, &book, &[], &BTreeMap::new(), &dialling);
        let addresses: Vec<_> =
            reach.addresses.iter().map(|one| (shown(&one.address), one.video)).collect();
        if json {
            let call: Vec<_> = addresses
                .iter()
                .map(|(address, video)| json!({"address": address, "video": video}))
                .collect();
            println!("{}", json!({"jid": jid.to_string(), "name": contact.name, "call": call}));
        } else {
            let addresses: Vec<_> = addresses.iter().map(|(address, _)| plain(address)).collect();
            let call =
                if addresses.is_empty() { "chat only".to_owned() } else { addresses.join(", ") };
            println!("{:<24} {:<32} {call}", plain(&contact.name), jid.to_string());
        }
    }
    Ok(Exit::Fine)
}

/// What to call for what somebody typed, after the person was told what it may cost.
pub(crate) async fn address(
    saved: &Saved,
    whom: &str,
    country: &str,
    yes: bool,
) -> anyhow::Result<Result<Uri, Exit>> {
    let country = Country::of(country).with_context(|| format!("{country} is no country"))?;
    let domain = saved.account.sip.as_ref().map(|sip| sip.aor.host().to_owned());
    let dialling = Dialling::new(Some(country)).with_domain(domain.as_deref().unwrap_or_default());
    let accounts = accounts(saved);
    let contact = BareJid::new(whom).ok().filter(|jid| jid.node().is_some());
    let contact = contact.filter(|_| !whom.starts_with("sip") && !whom.starts_with("tel:"));
    let (choice, contact) = match contact {
        None => {
            let address = dialling
                .read(whom)
                .with_context(|| format!("{whom} is no contact, no SIP address and no number"))?;
            (route::dial(&address, &accounts, &Layers::default()), None)
        }
        Some(jid) => {
            let book = match fetch(saved, Some(&jid)).await? {
                Ok(book) => book,
                Err(lost) => return Ok(Err(failed(&lost))),
            };
            let reach = reach(&jid, &book, &[], &BTreeMap::new(), &dialling);
            (call(&jid, &reach, &accounts), Some(jid))
        }
    };
    let routes = match choice {
        Choice::Dial(routes) | Choice::Ask(routes) => routes,
        Choice::None(Why::NoAccount) => bail!("the account cannot call"),
        Choice::None(Why::NoAddress | Why::Unwanted) => {
            eprintln!("cusax: {whom} has no address that can be called");
            return Ok(Err(Exit::Refused));
        }
    };
    let uri = routes.into_iter().find_map(|route| match route.to {
        Destination::Sip(uri) => Some(uri),
        Destination::Jingle(_) => None,
    });
    let Some(uri) = uri else {
        eprintln!("cusax: {whom} has no address that can be called");
        return Ok(Err(Exit::Refused));
    };
    let tariff = tariff(saved);
    if let Some(address) = dialling.address(&uri) {
        let (cues, ask) = cues(&address, contact.as_ref(), &tariff, &dialling);
        for cue in &cues {
            eprintln!("cusax: {}", in_words(cue));
        }
        if ask == Ask::Confirm && !yes {
            eprintln!("cusax: not called; --yes calls all the same");
            return Ok(Err(Exit::Refused));
        }
    }
    Ok(Ok(uri))
}

fn call(jid: &BareJid, reach: &Reach, accounts: &[Account]) -> Choice {
    route::call(jid, CHAT, reach, accounts, &Layers::default())
}

/// Both accounts as what can call and chat.
fn accounts(saved: &Saved) -> Vec<Account> {
    let (xmpp, sip) = split(&saved.account, &Wishes::default());
    let related = |other: &str| saved.account.related.then(|| other.to_owned());
    let chat = saved.account.xmpp.as_ref().map(|_| Account {
        id: CHAT.to_owned(),
        kind: Kind::Xmpp,
        // This client knows no Jingle.
        offers: cusax_client::provision::Offers { calls: false, ..xmpp },
        related: related(VOICE),
    });
    let voice = saved.account.sip.as_ref().map(|account| Account {
        id: VOICE.to_owned(),
        kind: Kind::Sip { domain: account.aor.host().to_owned() },
        offers: sip,
        related: related(CHAT),
    });
    chat.into_iter().chain(voice).collect()
}

/// What is known of cost without asking: within the service's domains calls cost nothing.
fn tariff(saved: &Saved) -> Tariff {
    let account = &saved.account;
    let rooms = account.conference.iter().map(|conference| conference.sip_domain.clone());
    let own = account.sip.iter().map(|sip| sip.aor.host().to_owned());
    let domains: BTreeSet<_> = rooms.chain(own).collect();
    Tariff { domains, extension_digits: 5, ..Tariff::default() }
}

fn dialling(saved: &Saved, country: &str) -> Dialling {
    let dialling = Dialling::new(Country::of(country));
    match &saved.account.sip {
        Some(sip) => dialling.with_domain(sip.aor.host()),
        None => dialling,
    }
}

fn in_words(cue: &Cue) -> String {
    match cue {
        Cue::OtherDomain(domain) => format!("this call goes to another domain, {}", plain(domain)),
        Cue::Telephone => "this call goes to the telephone network".to_owned(),
        Cue::MayCost => "this call may cost money".to_owned(),
        Cue::NumberOfAContact => {
            "the contact is of another service, and this is a number from their card".to_owned()
        }
        Cue::Refused => "the service does not place such calls".to_owned(),
        Cue::Emergency => "this is an emergency call".to_owned(),
    }
}

fn shown(address: &Address) -> String {
    match address {
        Address::Number(digits) => format!("+{digits}"),
        Address::Local(digits) => digits.clone(),
        Address::Sip(aor) => aor.to_string(),
    }
}

/// The roster, with the cards of one or of all.
async fn fetch(saved: &Saved, of: Option<&BareJid>) -> anyhow::Result<Result<Book, Lost>> {
    let account = saved.chat()?.context("the account has no chat")?;
    let (sender, mut events) = mpsc::channel::<Event>(64);
    let before = saved.memory().known(Side::Chat);
    let chat = match Chat::connect(&account, before, sender).await {
        Ok(chat) => chat,
        Err(lost) => return Ok(Err(lost)),
    };
    chat.send(room::roster("roster")).await;
    let mut book = Book::default();
    let mut waiting = BTreeSet::from(["roster".to_owned()]);
    let answers = async {
        while !waiting.is_empty() {
            match events.recv().await {
                Some(Event::Stanza(stanza)) => {
                    let id = stanza.attr("id").unwrap_or_default().to_owned();
                    if stanza.name() != "iq" || !waiting.remove(&id) {
                        continue;
                    }
                    if id == "roster" {
                        let jids = take_roster(&stanza, &mut book);
                        for jid in jids.into_iter().filter(|jid| of.is_none_or(|of| of == jid)) {
                            let id = format!("card {jid}");
                            chat.send(room::card(&jid, &id)).await;
                            waiting.insert(id);
                        }
                    } else {
                        take_card(&stanza, &id, &mut book);
                    }
                }
                Some(Event::Lost(lost)) => return Err(lost),
                None => return Err(Lost::Ended("the connection is over".to_owned())),
            }
        }
        Ok(())
    };
    // Who does not answer for a card has none.
    match timeout(PATIENCE, answers).await {
        Ok(Err(lost)) => Ok(Err(lost)),
        Ok(Ok(())) | Err(_) => Ok(Ok(book)),
    }
}

fn take_roster(answer: &Element, book: &mut Book) -> Vec<BareJid> {
    for (jid, name) in room::contacts(answer) {
        let name = name.unwrap_or_else(|| jid.to_string());
        book.contacts.insert(jid, Contact { name, card: None });
    }
    book.contacts.keys().cloned().collect()
}

fn take_card(answer: &Element, id: &str, book: &mut Book) {
    let jid = id.strip_prefix("card ").and_then(|jid| BareJid::new(jid).ok());
    let card = answer.children().find_map(Card::read).unwrap_or_default();
    if let Some(contact) = jid.and_then(|jid| book.contacts.get_mut(&jid)) {
        contact.card = Some(card);
    }
}

fn failed(lost: &Lost) -> Exit {
    eprintln!("cusax: {lost}");
    match lost.fault() {
        Fault::WrongPassword => Exit::Password,
        Fault::Unreachable => Exit::Unreachable,
        Fault::NotTrusted | Fault::Refused | Fault::Replaced => Exit::Refused,
    }
}

const CHAT: &str = "chat";
const VOICE: &str = "voice";
/// How long cards are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
