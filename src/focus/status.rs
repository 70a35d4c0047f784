//! What rooms say, in the words of SIP: refusals as statuses, departures as reasons.

use cusax_sip::header::Reason;
use cusax_sip::message::Status;

use crate::room::{Departure, Ending, Refusal, RoomEnd};

/// The status and the reason phrase of a refusal.
pub(super) const fn refused(refusal: Refusal) -> (Status, &'static str) {
    match refusal {
        Refusal::NoSuchRoom => (Status::NOT_FOUND, "No Such Conference"),
        Refusal::NotConfigured => (Status::NOT_FOUND, "Not Open Yet"),
        Refusal::MayNotCreate => (Status::FORBIDDEN, "May Not Create Conferences"),
        Refusal::Banned => (Status::FORBIDDEN, "Banned"),
        Refusal::MembersOnly => (Status::FORBIDDEN, "Members Only"),
        Refusal::WrongPassword => (Status::UNAUTHORIZED, "Conference Password Required"),
        Refusal::Locked => (Status::TEMPORARILY_UNAVAILABLE, "Conference Locked"),
        // Not 503: that would say that the server is full (RFC 7247 §7.1 note 5).
        Refusal::Full => (Status::BUSY_HERE, "Conference Full"),
        Refusal::TooMany => (Status::BUSY_HERE, "Too Many Calls"),
        Refusal::NickTaken => (Status::TEMPORARILY_UNAVAILABLE, "Name Taken"),
        Refusal::NoCommonMedia => (Status::NOT_ACCEPTABLE_HERE, "Not Acceptable Here"),
        Refusal::NoCalls => (Status::FORBIDDEN, "No Calls In This Conference"),
        Refusal::AlreadyCalled => (Status::BUSY_HERE, "Already Being Called"),
        Refusal::NoSuchCall => (Status::NOT_FOUND, "No Such Call"),
        Refusal::NotHere => (Status::CALL_DOES_NOT_EXIST, "Not In This Conference"),
        Refusal::RoomsOwnHat => (Status::FORBIDDEN, "Said By The Room Alone"),
        Refusal::NoSuchHat => (Status::NOT_FOUND, "No Such Hat"),
        Refusal::NoSuchPerson => (Status::NOT_FOUND, "Nobody There"),
        Refusal::Forbidden
        | Refusal::MayNotBeCalled
        | Refusal::NotAllowed
        | Refusal::NotToYourself
        | Refusal::LastOwner
        | Refusal::NoVoice
        | Refusal::MayNotRegister
        | Refusal::TooSoon { .. } => (Status::FORBIDDEN, "Forbidden"),
        Refusal::BadSettings => (Status::BAD_REQUEST, "Bad Request"),
        Refusal::Draining => (Status::SERVICE_UNAVAILABLE, "Shutting Down"),
        Refusal::NotKept => (Status::SERVICE_UNAVAILABLE, "Cannot Be Stored"),
    }
}

/// Why a call ends that its person did not end: the Reason values of our BYE (RFC 3326), and how
/// their subscriptions to the conference end (RFC 6665 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// Best first.
    pub(super) reasons: Vec<Reason>,
    /// The `reason` of Subscription-State.
    pub(super) subscription: &'static str,
    /// When to subscribe again, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Farewell {
    /// How to part for a reason in the words of SIP.
    pub(super) fn because(status: u16, text: &str) -> Self {
        Self {
            reasons: vec![Reason::sip(status, &clip(text))],
            subscription: "deactivated",
            retry_after: None,
        }
    }

    /// How to part from a leg that ended while its person stays; `None` if they hung up.
    pub(super) fn after(ending: &Ending) -> Option<Self> {
        match ending {
            Ending::Departed => None,
            Ending::Replaced => Some(Self::because(200, "Moved To Another Device")),
            Ending::Failed { status, text } => Some(Self::because(*status, text)),
        }
    }
}

/// How to part from someone who is out; `None` if they went by themselves.
pub(super) fn departed(departure: Departure, reason: Option<&str>) -> Option<Farewell> {
    let text = |what: &str| match reason {
        Some(reason) if !reason.is_empty() => format!("{what}: {}", clip(reason)),
        Some(_) | None => what.to_owned(),
    };
    let farewell = |cause, text: String, q850, subscription, retry_after| {
        Some(Farewell {
            reasons: vec![Reason::sip(cause, &text), Reason::q850(q850)],
            subscription,
            retry_after,
        })
    };
    match departure {
        Departure::Left | Departure::Lost => None,
        Departure::Kicked => {
            farewell(603, text("Kicked"), NORMAL_CLEARING, "probation", Some(KICK_RETRY))
        }
        Departure::Banned => farewell(403, text("Banned"), CALL_REJECTED, "rejected", None),
        Departure::MembershipLost => {
            farewell(403, text("No longer a member"), CALL_REJECTED, "rejected", None)
        }
        Departure::MembersOnly => {
            farewell(403, text("Members only"), CALL_REJECTED, "rejected", None)
        }
        Departure::Shutdown => {
            farewell(503, text("Shutting down"), TEMPORARY_FAILURE, "deactivated", None)
        }
    }
}

/// How to part from everyone in a room that is no more (RFC 4575 §3.3).
pub(super) fn ended(end: &RoomEnd) -> Farewell {
    let text = match end {
        RoomEnd::Destroyed { reason: Some(reason), .. } if !reason.is_empty() => clip(reason),
        RoomEnd::Destroyed { .. } => "The conference was closed".to_owned(),
        RoomEnd::Emptied | RoomEnd::NeverConfigured => "The conference ended".to_owned(),
    };
    Farewell {
        reasons: vec![Reason::sip(410, &text), Reason::q850(NORMAL_CLEARING)],
        subscription: "noresource",
        retry_after: None,
    }
}

/// A text that people wrote, short enough for a header line.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// The longest reason that is passed on, in characters.
const MAX_REASON: usize = 200;
/// After how many seconds someone who was kicked may subscribe again.
const KICK_RETRY: u32 = 30;
/// Q.850 causes.
const NORMAL_CLEARING: u16 = 16;
const CALL_REJECTED: u16 = 21;
const TEMPORARY_FAILURE: u16 = 41;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        for (refusal, status) in [
            (Refusal::NoSuchRoom, 404),
            (Refusal::NotConfigured, 404),
            (Refusal::Banned, 403),
            (Refusal::MembersOnly, 403),
            (Refusal::NoCalls, 403),
            (Refusal::WrongPassword, 401),
            (Refusal::Locked, 480),
            (Refusal::Full, 486),
            (Refusal::TooMany, 486),
            (Refusal::NoCommonMedia, 488),
            (Refusal::NotHere, 481),
            (Refusal::Draining, 503),
            (Refusal::NotKept, 503),
        ] {
            assert_eq!(refused(refusal).0.code(), status, "{refusal:?}");
        }
    }

    #[test]
    fn departures() {
        for (departure, reason, expected, subscription) in [
            (
                Departure::Kicked,
                Some("noise"),
                "SIP;cause=603;text=\"Kicked: noise\", Q.850;cause=16",
                "probation",
            ),
            (Departure::Kicked, None, "SIP;cause=603;text=\"Kicked\", Q.850;cause=16", "probation"),
            (
                Departure::Banned,
                Some(""),
                "SIP;cause=403;text=\"Banned\", Q.850;cause=21",
                "rejected",
            ),
            (
                Departure::MembersOnly,
                None,
                "SIP;cause=403;text=\"Members only\", Q.850;cause=21",
                "rejected",
            ),
            (
                Departure::Shutdown,
                None,
                "SIP;cause=503;text=\"Shutting down\", Q.850;cause=41",
                "deactivated",
            ),
        ] {
            let farewell = departed(departure, reason).unwrap();
            let reasons: Vec<_> = farewell.reasons.iter().map(ToString::to_string).collect();
            assert_eq!(reasons.join(", "), expected);
            assert_eq!(farewell.subscription, subscription, "{departure:?}");
        }
        assert_eq!(departed(Departure::Left, None), None);
    }

    #[test]
    fn the_end_of_a_room() {
        let end = RoomEnd::Destroyed { reason: Some("Done\r\nVia: x".to_owned()), alternate: None };
        let farewell = ended(&end);
        assert_eq!(farewell.reasons[0].to_string(), "SIP;cause=410;text=\"DoneVia: x\"");
        assert_eq!(farewell.subscription, "noresource");
    }
}
