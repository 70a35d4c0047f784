//! Our media policy: which codecs we like, and what an agreement means to the mixer.

use cusax::conference::MediaStatus;
use cusax_media::srtp::{Keys, Suite};
use cusax_sip::sdp::offer::{Audio, Capabilities, Offered, Srtp};
use cusax_sip::sdp::{Codec, Direction};

use crate::mixer::plan::{CodecKind, CodecPlan};

/// What we can do, best first: Opus with in-band FEC in mono at a rate that is transparent for
/// speech (RFC 7587 §3.1.1), G.711 for the telephone network, keys at both clock rates
/// (RFC 4733 §2.5.1.2), and levels in the header where they are offered (RFC 6464).
pub(super) fn capabilities() -> Capabilities {
    let codec = |kind: CodecKind, payload_type, fmtp: &str| Offered {
        codec: codec(kind),
        payload_type,
        fmtp: fmtp.to_owned(),
    };
    Capabilities {
        codecs: vec![
            codec(CodecKind::Opus, 96, "maxaveragebitrate=40000;stereo=0;useinbandfec=1"),
            codec(CodecKind::Pcmu, 0, ""),
            codec(CodecKind::Pcma, 8, ""),
        ],
        telephone_events: vec![(48_000, 102), (8_000, 101)],
        rtcp_mux: true,
        extensions: vec![AUDIO_LEVEL.to_owned()],
        suites: Suite::ALL.map(|it| (it.name().to_owned(), it.master_len())).to_vec(),
        ptime_ms: Some(20),
        label: Some(LABEL.to_owned()),
    }
}

/// The codec of an agreement, for the mixer. `None` never happens with [`capabilities`].
pub(super) fn codec_plan(audio: &Audio) -> Option<CodecPlan> {
    let agreed = audio.codec();
    let kind = [CodecKind::Opus, CodecKind::Pcmu, CodecKind::Pcma]
        .into_iter()
        .find(|kind| codec(*kind) == agreed.codec)?;
    let wish = |name: &str| {
        agreed.remote_fmtp.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    };
    let max_bitrate = wish("maxaveragebitrate").and_then(|rate| rate.parse().ok());
    Some(CodecPlan {
        kind,
        send_pt: agreed.send,
        receive_pt: agreed.receive,
        max_bitrate: max_bitrate.map(|rate: u32| rate.clamp(6_000, 510_000)),
        fec: wish("useinbandfec") == Some("1"),
        dtx: wish("usedtx") == Some("1"),
    })
}

/// The keys of an agreement, for the mixer; `None` if packets go as they are.
pub(super) fn keys(audio: &Audio) -> Option<Keys> {
    let Srtp { ours, theirs } = audio.srtp.as_ref()?;
    let suite = Suite::ALL.into_iter().find(|suite| suite.name() == ours.suite)?;
    Some(Keys { suite, ours: ours.key.clone(), theirs: theirs.key.clone() })
}

/// The id of the level extension, if it was agreed on.
pub(super) fn level_extension(audio: &Audio) -> Option<u8> {
    audio.extensions.iter().find(|extension| extension.uri == AUDIO_LEVEL).map(|e| e.id)
}

/// A direction of the peer's as RFC 4575 §5.8.5 says it: from the participant's point of view.
pub(super) fn media_status(theirs: Direction) -> MediaStatus {
    match theirs {
        Direction::SendRecv => MediaStatus::SendRecv,
        Direction::SendOnly => MediaStatus::SendOnly,
        Direction::RecvOnly => MediaStatus::RecvOnly,
        Direction::Inactive => MediaStatus::Inactive,
    }
}

fn codec(kind: CodecKind) -> Codec {
    match kind {
        CodecKind::Opus => Codec::new("opus", 48_000, 2),
        CodecKind::Pcmu => Codec::new("PCMU", 8_000, 1),
        CodecKind::Pcma => Codec::new("PCMA", 8_000, 1),
    }
}

/// The `a=label` of our audio, which documents name as available media (RFC 4575 §5.3.4).
pub(super) const LABEL: &str = "1";
/// RFC 6464 §4.
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
