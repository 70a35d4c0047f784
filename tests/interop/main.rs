//! Interoperation with programs that others wrote: Prosody, ejabberd, Kamailio, slixmpp, nbxmpp,
//! Profanity, Converse.js, baresip, Linphone, SIPp, Prometheus and
//! PostgreSQL, all on loopback.
//!
//! One file per peer tells how it is started and driven, `site.rs` puts them together, `cases/`
//! holds the tests. `scripts/setup.sh` installs the peers; without them the tests say so and pass,
//! unless `CI=true`. Logs, recordings and stores of the last run lie in `target/tmp/TEST/`.
//!
//! Not run by plain `cargo test`, since it takes minutes: `cargo test --test interop`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod baresip;
mod console;
mod converse;
mod cusax;
mod cusaxd;
mod ejabberd;
mod gajim;
mod http;
mod kamailio;
mod linphone;
mod peer;
#[path = "../support/postgres.rs"]
mod postgres;
mod process;
mod profanity;
mod prometheus;
mod prosody;
mod recording;
mod rtp;
mod sipp;
mod site;
mod slixmpp;
mod steady;
mod terminal;
mod wait;

mod cases {
    mod abuse;
    mod archive;
    mod browser;
    mod client;
    mod commands;
    mod console;
    mod dashboards;
    mod dialout;
    mod document;
    mod doors;
    mod gajim;
    mod hearing;
    mod keypad;
    mod moderation;
    mod occupants;
    mod operators;
    mod outage;
    mod provisioning;
    mod secure;
    mod stanzas;
    mod storm;
    mod terminal;
    mod wire;
}
