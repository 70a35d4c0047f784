//! How MUC presence shows who is on the call: hats (XEP-0317), which ordinary clients display.

/// What a room says about someone besides role and affiliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hat {
    /// A call leg of theirs is in the conference.
    OnTheCall,
    /// They are on the call and not heard, whoever muted them.
    Muted,
    /// Every call leg of theirs is on hold.
    OnHold,
    /// They are on the call and read no chat.
    ByPhone,
    /// Their hand is up.
    HandRaised,
}

impl Hat {
    /// Every hat, in the order in which presence lists them.
    pub const ALL: [Self; 5] =
        [Self::OnTheCall, Self::Muted, Self::OnHold, Self::ByPhone, Self::HandRaised];

    /// What people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::OnTheCall => "On the call",
            Self::Muted => "Muted",
            Self::OnHold => "On hold",
            Self::ByPhone => "By phone",
            Self::HandRaised => "Hand raised",
        }
    }

    /// What programs compare.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::OnTheCall => "urn:x-cusax:hat:on-the-call",
            Self::Muted => "urn:x-cusax:hat:muted",
            Self::OnHold => "urn:x-cusax:hat:on-hold",
            Self::ByPhone => "urn:x-cusax:hat:by-phone",
            Self::HandRaised => "urn:x-cusax:hat:hand-raised",
        }
    }

    /// Reads [`Self::uri`] back.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hat| hat.uri() == uri)
    }
}

/// What every URI of [`Hat::uri`] begins with.
pub const PREFIX: &str = "urn:x-cusax:hat:";

/// The namespace of hats (XEP-0317 §7).
pub const NS: &str = "urn:xmpp:hats:0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hat_has_a_uri_of_its_own() {
        for hat in Hat::ALL {
            assert_eq!(Hat::from_uri(hat.uri()), Some(hat));
            assert!(hat.uri().starts_with(PREFIX));
        }
        assert_eq!(Hat::from_uri("http://schema.example.com/hats#host"), None);
    }
}
