//! What to say before a call is placed: that it leaves the domain, that it goes to the telephone network,
//! that it may cost money (RFC 7081 §5).
//!
//! Who calls a contact expects a call like any other; who dials a number knows what they do. So the first
//! is asked, and the second is shown it. Nobody is asked anything before an emergency call.

use std::collections::BTreeSet;

use jid::BareJid;

use crate::number::{Address, Dialling};

/// What a service says of calls through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    /// The domains within which calls cost nothing, in lower case.
    pub domains: BTreeSet<String>,
    /// Numbers of the service itself begin with these digits, the country's first.
    pub own_numbers: Vec<String>,
    /// The longest extension: what is dialled within the house.
    pub extension_digits: usize,
    /// What else can be called.
    pub beyond: Beyond,
}

/// What a service connects to outside of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// Everything, and some of it for money.
    #[default]
    Charged,
    /// Everything, and telephone calls cost nothing.
    Flat,
    /// Nothing: it would refuse the call.
    Nothing,
}

/// Something to be said of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cue {
    /// It goes to another domain.
    OtherDomain(String),
    /// It goes to the telephone network.
    Telephone,
    /// It may cost money.
    MayCost,
    /// The contact is of another domain, and what is called is a telephone number from their card.
    NumberOfAContact,
    /// The service does not place such calls.
    Refused,
    /// It is an emergency number.
    Emergency,
}

/// How much is made of the cues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// There is nothing to say.
    No,
    /// They are shown while it is called.
    Show,
    /// The person says yes before it is called.
    Confirm,
    /// It is not called.
    Forbid,
}

/// What is to be said of a call to an address, and how. `contact` is whom the person chose, if they did not
/// dial the address themselves.
pub fn cues(
    address: &Address,
    contact: Option<&BareJid>,
    tariff: &Tariff,
    dialling: &Dialling,
) -> (BTreeSet<Cue>, Ask) {
    let mut cues = BTreeSet::new();
    match leads(address, tariff, dialling) {
        Leads::Within => return (cues, Ask::No),
        Leads::Emergency => {
            cues.insert(Cue::Emergency);
            return (cues, Ask::Show);
        }
        Leads::Domain(host) => {
            cues.insert(Cue::OtherDomain(host));
        }
        Leads::Telephone => {
            cues.insert(Cue::Telephone);
            if tariff.beyond == Beyond::Charged {
                cues.insert(Cue::MayCost);
            }
            if contact.is_some_and(|jid| !tariff.is_own(jid.domain().as_str())) {
                cues.insert(Cue::NumberOfAContact);
            }
        }
    }
    if tariff.beyond == Beyond::Nothing {
        cues.insert(Cue::Refused);
        return (cues, Ask::Forbid);
    }
    let costs = cues.contains(&Cue::MayCost) && contact.is_some();
    (cues, if costs { Ask::Confirm } else { Ask::Show })
}

impl Tariff {
    fn is_own(&self, host: &str) -> bool {
        self.domains.contains(&host.to_ascii_lowercase())
    }
}

/// Where a call leads.
enum Leads {
    Within,
    Domain(String),
    Telephone,
    Emergency,
}

fn leads(address: &Address, tariff: &Tariff, dialling: &Dialling) -> Leads {
    match address {
        Address::Local(digits) if EMERGENCY.contains(&digits.as_str()) => Leads::Emergency,
        Address::Local(digits) if digits.len() <= tariff.extension_digits => Leads::Within,
        Address::Number(digits)
            if tariff.own_numbers.iter().any(|own| digits.starts_with(own.as_str())) =>
        {
            Leads::Within
        }
        Address::Local(_) | Address::Number(_) => Leads::Telephone,
        Address::Sip(aor) if !tariff.is_own(aor.host()) => Leads::Domain(aor.host().to_owned()),
        // At one's own domain a number is a telephone call, though it is written as an address.
        Address::Sip(aor) => match dialling.read(aor.user()).filter(|_| aor.is_number()) {
            Some(number @ (Address::Number(_) | Address::Local(_))) => {
                leads(&number, tariff, dialling)
            }
            Some(Address::Sip(_)) | None => Leads::Within,
        },
    }
}

/// Numbers for emergencies, of more countries than one.
const EMERGENCY: [&str; 7] = ["000", "110", "112", "118", "119", "911", "999"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Country;

    #[test]
    fn says_what_leaves_the_domain_and_what_may_cost() {
        let check = |what: &str, contact: &str, beyond, expected: &str| {
            let tariff = Tariff {
                domains: ["atlanta.test".to_owned()].into(),
                own_numbers: vec!["4930555".to_owned()],
                extension_digits: 4,
                beyond,
            };
            let dialling = Dialling::new(Country::of("DE"));
            let address = dialling.read(what).unwrap();
            let contact = (!contact.is_empty()).then(|| BareJid::new(contact).unwrap());
            let (cues, ask) = cues(&address, contact.as_ref(), &tariff, &dialling);
            let cues: Vec<_> = cues.iter().map(|cue| format!("{cue:?}")).collect();
            assert_eq!(format!("{} {ask:?}", cues.join(" ")), expected, "{what} {contact:?}");
        };
        let (alice, bob) = ("alice@atlanta.test", "bob@biloxi.test");
        let (charged, flat, nothing) = (Beyond::Charged, Beyond::Flat, Beyond::Nothing);
        // The free call that she is used to.
        check("sip:alice@atlanta.test", alice, charged, " No");
        check("sip:alice@Atlanta.test", "", nothing, " No");
        // A number that she dials herself, which she knows to cost.
        check("0171 5550000", "", charged, "Telephone MayCost Show");
        // Bob's mobile, on his card at a domain without SIP.
        check("0171 5550000", bob, charged, "Telephone MayCost NumberOfAContact Confirm");
        check("0171 5550000", alice, charged, "Telephone MayCost Confirm");
        check("0171 5550000", bob, flat, "Telephone NumberOfAContact Show");
        check("0171 5550000", bob, nothing, "Telephone NumberOfAContact Refused Forbid");
        // Another domain.
        check("sip:bob@biloxi.test", bob, charged, "OtherDomain(\"biloxi.test\") Show");
        check("sip:bob@biloxi.test", bob, nothing, "OtherDomain(\"biloxi.test\") Refused Forbid");
        check("sip:bob@atlanta.test.evil", bob, charged, "OtherDomain(\"atlanta.test.evil\") Show");
        // The house's numbers and extensions.
        check("030 555-12", "", charged, " No");
        check("+49 30 555 12", bob, nothing, " No");
        check("1234", "", charged, " No");
        check("12345", "", charged, "Telephone MayCost Show");
        // A number in the form of an address is a number.
        check(
            "sip:+491715550000@atlanta.test",
            bob,
            charged,
            "Telephone MayCost NumberOfAContact Confirm",
        );
        check("sip:01715550000@atlanta.test;user=phone", "", charged, "Telephone MayCost Show");
        check("sip:1234@atlanta.test", alice, charged, " No");
        // Nothing stands before an emergency call.
        for number in ["112", "sip:112@atlanta.test", "110"] {
            check(number, bob, nothing, "Emergency Show");
        }
    }
}
