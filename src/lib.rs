//! A conference bridge joining XMPP chat rooms and SIP calls.
