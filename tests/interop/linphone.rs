//! Linphone (`peers/linphone.py`): the phone that subscribes to the conference package by itself.

use std::{fs, ops::Deref, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    baresip::TONE_DBFS,
    peer::Peer,
    site::{CONFERENCES, PHONES, Ports, Site, installed, password},
};

/// A Linphone that is registered with the site's Kamailio.
pub(crate) struct Linphone {
    peer: Peer,
}

impl Deref for Linphone {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Linphone {
    /// Starts it and registers; `None`, with a message, when the library is missing.
    pub(crate) fn start(user: &str, site: &Site) -> Option<Self> {
        let proxy = format!("sip:127.0.0.1:{};transport=udp", site.ports.proxy);
        let linphone = Self::launch(user, PHONES, &proxy, site)?;
        linphone.tell("register", json!({}));
        Some(linphone)
    }

    /// Starts it with an account of the focus itself, where nobody registers. As a digest it knows
    /// MD5 alone.
    pub(crate) fn direct(user: &str, site: &Site) -> Option<Self> {
        Self::launch(user, CONFERENCES, "", site)
    }

    /// Starts it without an account: it is told one at `config_uri`.
    pub(crate) fn told(user: &str, config_uri: &str, site: &Site) -> Option<Self> {
        Self::launch_with(user, CONFERENCES, "", config_uri, "", site)
    }

    /// Starts it as [`Linphone::direct`] does, with a tone in place of a microphone.
    pub(crate) fn playing(user: &str, hz: f64, site: &Site) -> Option<Self> {
        let file = site.dir.join(format!("{user}.wav"));
        tone(&file, hz);
        Self::launch_with(user, CONFERENCES, "", "", &file.display().to_string(), site)
    }

    fn launch(user: &str, domain: &str, proxy: &str, site: &Site) -> Option<Self> {
        Self::launch_with(user, domain, proxy, "", "", site)
    }

    fn launch_with(
        user: &str,
        domain: &str,
        proxy: &str,
        config_uri: &str,
        play: &str,
        site: &Site,
    ) -> Option<Self> {
        installed(&["linphonec"])?;
        let home = site.dir.join(format!("linphone-{user}"));
        let (sip_port, rtp_port) = (Ports::any(), Ports::any() & !1);
        let arguments = [
            ("--user", user),
            ("--password", &password(user)),
            ("--domain", domain),
            ("--proxy", proxy),
            ("--config-uri", config_uri),
            ("--play", play),
            ("--home", &home.display().to_string()),
            ("--sip-port", &sip_port.to_string()),
            ("--rtp-port", &rtp_port.to_string()),
        ];
        let arguments: Vec<String> =
            arguments.iter().flat_map(|(name, value)| [*name, value]).map(str::to_owned).collect();
        let peer = Peer::start(&format!("linphone-{user}"), "linphone.py", &arguments, &site.dir);
        Some(Self { peer })
    }

    /// Whether it still runs: it crashes on documents that it does not like.
    pub(crate) fn alive(&mut self) -> bool {
        self.peer.alive()
    }

    /// Dials an address and waits until the call runs.
    pub(crate) fn call(&self, uri: &str) {
        let mark = self.mark();
        self.tell("dial", json!({ "uri": uri }));
        self.wait(mark, "the call to run", |event| {
            assert_ne!(event["state"], "LinphoneCallError", "the call failed");
            event["state"] == "LinphoneCallStreamsRunning"
        });
    }

    /// Waits until the list of participants that it shows fits.
    pub(crate) fn shows(&self, mark: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(mark, Duration::from_secs(20), what, |event| {
            event["ev"] == "participants" && wanted(event)
        })
    }
}

/// Writes a minute of a tone as a WAV file, as loud as the other phones' tones.
fn tone(file: &Path, hz: f64) {
    const RATE: u32 = 48_000;
    let amplitude = 32_767.0 * 10.0_f64.powf(TONE_DBFS / 20.0);
    let step = std::f64::consts::TAU * hz / f64::from(RATE);
    let samples = (0..60 * RATE).map(|n| (amplitude * (step * f64::from(n)).sin()) as i16);
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let length = u32::try_from(data.len()).expect("a minute is short");
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + length).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    // PCM, mono, 16 bits.
    for (value, size) in [(1, 2), (1, 2), (RATE, 4), (2 * RATE, 4), (2, 2), (16, 2)] {
        wav.extend(&value.to_le_bytes()[..size]);
    }
    wav.extend(b"data");
    wav.extend(length.to_le_bytes());
    wav.extend(data);
    fs::write(file, wav).expect("a file of ours");
}

/// All device names in a `participants` event: Linphone takes names from the endpoints.
pub(crate) fn devices(participants: &Value) -> Vec<String> {
    let people = participants["people"].as_array().cloned().unwrap_or_default();
    let devices = people.iter().filter_map(|person| person["devices"].as_array().cloned());
    devices.flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
