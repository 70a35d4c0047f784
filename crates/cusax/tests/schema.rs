//! Conference documents against the schema of RFC 4575 §6, whatever strings they are made of.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use cusax::conference::{
    AUDIO, AvailableMedia, Conference, ConferenceState, Description, DisconnectionMethod, Endpoint,
    EndpointStatus, Execution, JoiningMethod, MESSAGE, Media, MediaStatus, State, UriEntry, User,
    Users,
};
use minidom::Element;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Validates a batch of random documents with libxml2. Its answer counts, so on a build server a
/// missing `xmllint` (Debian: libxml2-utils) is a failure.
#[test]
fn random_documents_are_valid() {
    if Command::new("xmllint").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "xmllint is missing");
        eprintln!("not run: no xmllint (Debian: libxml2-utils)");
        return;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conference-info");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut runner = TestRunner::deterministic();
    let mut files = vec![];
    for i in 0..300 {
        let document = conference().new_tree(&mut runner).unwrap().current();
        let file = folder.join(format!("{i}.xml"));
        fs::write(&file, document.to_xml(i)).unwrap();
        files.push(file);
    }
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/conference-info.xsd");
    let lint = Command::new("xmllint")
        .args(["--nonet", "--noout", "--schema", schema])
        .args(&files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&lint.stderr);
    assert!(lint.status.success(), "{said}");
    assert_eq!(said.matches(" validates").count(), files.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What readers parse is what was meant, less the characters that XML cannot hold.
    #[test]
    fn texts_come_back(conference in conference()) {
        let xml = conference.to_xml(1);
        let root: Element = xml.lines().skip(1).collect::<Vec<_>>().join("\n").parse().unwrap();
        let ns = cusax::conference::NAMESPACE;
        prop_assert!(root.is("conference-info", ns));
        let users = root.get_child("users", ns).unwrap();
        prop_assert!(users.attr("state").is_some());
        prop_assert_eq!(users.children().count(), conference.users.list.len());
        let subject = root
            .get_child("conference-description", ns)
            .and_then(|description| description.get_child("subject", ns))
            .map(Element::text);
        let meant = conference.description.subject.map(|subject| {
            subject.chars().filter(|c| !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')).collect::<String>()
        });
        prop_assert_eq!(subject, meant);
        for media in users.children().flat_map(Element::children).flat_map(Element::children) {
            if media.name() == "media" {
                prop_assert!(media.has_child("type", ns) && media.has_child("status", ns));
            }
        }
    }
}

/// Any string at all, the nasty ones among them.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        vec(any::<char>(), 0..20).prop_map(String::from_iter),
        Just("]]><!-- &#0; \u{0}\u{1b}[2J\u{202e}\u{ffff}\"'\r\n\t".to_owned()),
    ]
}

fn conference() -> impl Strategy<Value = Conference> {
    let description = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        vec(entry(), 0..3),
        option::of(any::<u32>()),
        vec(text(), 0..2),
    );
    let state = (option::of(any::<u32>()), option::of(any::<bool>()), option::of(any::<bool>()));
    (address(), states(), description, state, states(), vec(user(), 0..4)).prop_map(
        |(entity, state, description, counts, users_state, list)| Conference {
            entity,
            state,
            description: Description {
                display_text: description.0,
                subject: description.1,
                free_text: description.2,
                conf_uris: description.3.clone(),
                service_uris: description.3,
                maximum_user_count: description.4,
                available_media: description
                    .5
                    .into_iter()
                    .map(|label| AvailableMedia {
                        label,
                        kind: AUDIO.to_owned(),
                        status: MediaStatus::SendRecv,
                    })
                    .collect(),
            },
            conference_state: ConferenceState {
                user_count: counts.0,
                active: counts.1,
                locked: counts.2,
            },
            users: Users { state: users_state, list },
        },
    )
}

fn states() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Full), Just(State::Partial), Just(State::Deleted)]
}

fn entry() -> impl Strategy<Value = UriEntry> {
    (address(), option::of(text()), option::of(text()))
        .prop_map(|(uri, display_text, purpose)| UriEntry { uri, display_text, purpose })
}

/// What stands where a URI belongs: a scheme of ours, and then whatever a peer called itself.
fn address() -> impl Strategy<Value = String> {
    (prop_oneof![Just("sip:"), Just("xmpp:")], text())
        .prop_map(|(scheme, rest)| scheme.to_owned() + &rest)
}

fn user() -> impl Strategy<Value = User> {
    let lists = (vec(entry(), 0..2), vec(text(), 0..2), vec(endpoint(), 0..3));
    (address(), states(), option::of(text()), lists).prop_map(
        |(entity, state, display_text, lists)| User {
            entity,
            state,
            display_text,
            associated_aors: lists.0,
            roles: lists.1,
            endpoints: lists.2,
        },
    )
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let words = (
        prop::sample::select(
            &[
                EndpointStatus::Pending,
                EndpointStatus::DialingOut,
                EndpointStatus::DialingIn,
                EndpointStatus::Alerting,
                EndpointStatus::OnHold,
                EndpointStatus::Connected,
                EndpointStatus::MutedViaFocus,
                EndpointStatus::Disconnecting,
                EndpointStatus::Disconnected,
            ][..],
        ),
        prop::sample::select(
            &[JoiningMethod::DialedIn, JoiningMethod::DialedOut, JoiningMethod::FocusOwner][..],
        ),
        prop::sample::select(
            &[
                DisconnectionMethod::Departed,
                DisconnectionMethod::Booted,
                DisconnectionMethod::Failed,
                DisconnectionMethod::Busy,
            ][..],
        ),
    );
    (text(), states(), option::of(text()), words, option::of(execution()), vec(media(), 0..3))
        .prop_map(|(entity, state, display_text, (status, joining, leaving), info, media)| {
            Endpoint {
                entity,
                state,
                display_text,
                status: Some(status),
                joining_method: Some(joining),
                referred: info.clone(),
                joining_info: info.clone(),
                disconnection_method: Some(leaving),
                disconnection_info: info,
                media,
            }
        })
}

fn execution() -> impl Strategy<Value = Execution> {
    (option::of(any::<u32>()), option::of(text()), option::of(address())).prop_map(
        |(when, reason, by)| Execution {
            when: when.map(|seconds| UNIX_EPOCH + Duration::from_secs(u64::from(seconds))),
            reason,
            by,
        },
    )
}

fn media() -> impl Strategy<Value = Media> {
    let statuses = &[
        MediaStatus::SendRecv,
        MediaStatus::SendOnly,
        MediaStatus::RecvOnly,
        MediaStatus::Inactive,
    ][..];
    (text(), option::of(text()), option::of(any::<u32>()), prop::sample::select(statuses)).prop_map(
        |(id, label, src_id, status)| Media { id, kind: MESSAGE.to_owned(), label, src_id, status },
    )
}
