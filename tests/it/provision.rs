//! What clients are told to set up, by the server itself in memory: who is told, in which form, and that
//! nothing tells a wrong password from a missing user.

use std::net::IpAddr;
use std::time::Duration;

use cusax::account::{Account, Password, Transport};
use cusax_sip::digest::{Algorithm, Ha1};
use cusaxd::admin::audit::Via;
use cusaxd::admin::{self, Question, Response};
use cusaxd::bridge::Input;
use cusaxd::provision::{Form, Proof, Request};
use cusaxd::room::By;
use serde_json::{Value, json};

use crate::openapi::faults;
use crate::site::Site;

const HERE: &str = "198.51.100.7";

fn site() -> Site {
    let mut site = Site::new(&["sip:alice@conf.example.org"]);
    for (user, aor) in
        [("alice", "sip:alice@conf.example.org"), ("bob", "sip:0815@pbx.example.net")]
    {
        let jid = format!("{user}@example.org").parse().unwrap();
        let body = json!({ "aor": aor, "name": format!("{user} <&\">"), "password": "right" });
        site.ask(Question::PutUser(jid, body));
    }
    let nobody = json!({ "aor": "sip:carol@conf.example.org" });
    site.ask(Question::PutUser("carol@example.org".parse().unwrap(), nobody));
    site
}

fn ask(site: &mut Site, from: &str, name: &str, password: &str, form: Form) -> (u16, String) {
    let from: IpAddr = from.parse().unwrap();
    let proof = Proof::Password(name.to_owned(), password.to_owned());
    let request = Request { ticket: 7, from, proof, form };
    assert!(!format!("{request:?}").contains("right"), "no password in a log");
    let answer = site.answer(Input::Provision(request));
    assert_eq!(answer.ticket, 7);
    (answer.status, answer.body.as_str().unwrap().to_owned())
}

#[test]
fn users_are_told_by_any_of_their_names() {
    let mut site = site();
    for (name, password, expected) in [
        ("alice", "right", 200),
        ("alice@conf.example.org", "right", 200),
        ("sip:alice@conf.example.org", "right", 200),
        ("alice@example.org", "right", 200),
        ("0815@pbx.example.net", "right", 200),
        ("bob@example.org", "right", 200),
        ("bob", "right", 401),
        ("0815", "right", 401),
        ("alice", "wrong", 401),
        ("alice", "", 401),
        ("", "right", 401),
        ("carol", "", 401),
        ("nobody", "right", 401),
        ("a b@c d@e", "right", 401),
    ] {
        site.wait(Duration::from_secs(61));
        assert_eq!(
            ask(&mut site, HERE, name, password, Form::Json).0,
            expected,
            "{name} {password}"
        );
    }
}

#[test]
fn a_wrong_password_and_a_missing_user_look_the_same() {
    let mut site = site();
    let answers = |site: &mut Site, from: &str, name: &str| -> Vec<_> {
        (0..7).map(|_| ask(site, from, name, "wrong", Form::Json)).collect()
    };
    let (there, missing) =
        (answers(&mut site, HERE, "alice"), answers(&mut site, "203.0.113.1", "x"));
    assert_eq!(there, missing);
    let statuses: Vec<u16> = there.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
    // The right one is not looked at any more, from there; elsewhere it is, and calls are locked too.
    assert_eq!(ask(&mut site, HERE, "alice", "right", Form::Json).0, 429);
    assert_eq!(ask(&mut site, "203.0.113.9", "alice", "right", Form::Json).0, 200);
    site.wait(Duration::from_secs(61));
    assert_eq!(ask(&mut site, HERE, "alice", "right", Form::Json).0, 200);
}

#[test]
fn one_address_may_ask_so_often() {
    let mut site = site();
    site.configure("sip", "max_burst_of_one", json!(3));
    let mut often = || ask(&mut site, HERE, "alice", "right", Form::Json).0;
    assert_eq!([often(), often(), often(), often()], [200, 200, 200, 429]);
}

#[test]
fn the_three_forms_say_the_same() {
    let mut site = site();
    let text = ask(&mut site, HERE, "bob@example.org", "right", Form::Json).1;
    let schema = include_str!("../../docs/provision.schema.json");
    let [schema, value]: [Value; 2] = [schema, &text].map(|it| serde_json::from_str(it).unwrap());
    assert_eq!(faults(&schema, &schema, &value, ""), Vec::<String>::new());
    let account = Account::from_json(&text).unwrap();
    let sip = account.sip.as_ref().unwrap();
    assert_eq!((sip.register, &sip.transports[..]), (true, &[Transport::Tcp, Transport::Udp][..]));
    assert!(account.related && !account.features.xmpp_calls && !text.contains("right"));

    let jitsi = ask(&mut site, HERE, "bob@example.org", "right", Form::Jitsi).1;
    let (read, secrets) = Account::from_jitsi(&jitsi).unwrap();
    assert_eq!(
        (read.name, read.related, read.features),
        (account.name.clone(), true, account.features)
    );
    assert_eq!(read.xmpp, account.xmpp);
    assert_eq!(read.sip.unwrap().aor, sip.aor);
    assert_eq!((secrets.sip.as_deref(), secrets.xmpp), (Some("right"), None));

    let linphone = ask(&mut site, HERE, "bob@example.org", "right", Form::Linphone).1;
    let (read, secrets) = Account::from_linphone(&linphone).unwrap();
    assert_eq!((read.name, read.sip.unwrap().aor), (account.name.clone(), sip.aor.clone()));
    let ha1 = Ha1::new(Algorithm::Md5, "0815", "pbx.example.net", "right");
    assert_eq!(secrets.sip_ha1.as_deref(), Some(ha1.as_hex()));
    assert!(!linphone.contains("right"));
}

#[test]
fn the_configuration_is_what_clients_are_told() {
    let mut site = site();
    for (option, value) in [
        ("xmpp_server", json!("xmpp.example.org:5223")),
        ("sip_proxy", json!("[2001:db8::1]:5061")),
        ("sip_transports", json!(["tls"])),
        ("one_password", json!(true)),
        ("xmpp_calls", json!(true)),
        ("sip_chat", json!(true)),
        ("sip_presence", json!(true)),
        ("refresh_hours", json!(2)),
    ] {
        site.configure("provision", option, value);
    }
    let text = ask(&mut site, HERE, "alice", "right", Form::Json).1;
    let account = Account::from_json(&text).unwrap();
    let (xmpp, sip) = (account.xmpp.unwrap(), account.sip.unwrap());
    assert_eq!(xmpp.server.as_deref(), Some("xmpp.example.org:5223"));
    assert_eq!(xmpp.password, Password::Given);
    assert_eq!(sip.proxy.as_deref(), Some("[2001:db8::1]:5061"));
    assert_eq!((sip.transports, sip.register), (vec![Transport::Tls], false));
    assert_eq!(account.refresh_s, 7_200);
    let features = account.features;
    assert!(features.xmpp_calls && features.sip_chat && features.sip_presence);
    let jitsi = ask(&mut site, HERE, "alice", "right", Form::Jitsi).1;
    let (read, secrets) = Account::from_jitsi(&jitsi).unwrap();
    assert_eq!((read.features, secrets.xmpp.as_deref()), (features, Some("right")));
    assert_eq!(read.sip.unwrap().proxy.as_deref(), Some("[2001:db8::1]:5061"));
}

#[test]
fn a_link_opens_for_who_cannot_give_a_password() {
    let mut site = site();
    let link = |site: &mut Site, user: &str| {
        let user = format!("{user}@example.org").parse().unwrap();
        site.answer(Input::Admin(admin::Request {
            ticket: 7,
            by: By::Operator("test".to_owned()),
            via: Via::AdHoc,
            question: Question::LinkUser(user),
        }))
    };
    assert_eq!(link(&mut site, "nobody").status, 404);
    let made = link(&mut site, "alice");
    assert_eq!(made.status, 200);
    crate::openapi::check("Link", &made.body);
    let token = made.body["path"].as_str().unwrap().strip_prefix("/provision/").unwrap().to_owned();
    let open = |site: &mut Site, token: &str, form| {
        let (from, proof) = (HERE.parse().unwrap(), Proof::Token(token.to_owned()));
        let answer = site.answer(Input::Provision(Request { ticket: 7, from, proof, form }));
        (answer.status, answer.body.as_str().unwrap().to_owned())
    };
    let (status, text) = open(&mut site, &token, Form::Linphone);
    let (read, secrets) = Account::from_linphone(&text).unwrap();
    let ha1 = Ha1::new(Algorithm::Md5, "alice", "conf.example.org", "right");
    assert_eq!((status, secrets.sip_ha1.as_deref()), (200, Some(ha1.as_hex())));
    assert_eq!(read.sip.unwrap().password, Password::Given);
    // Used, made up, too late, or of somebody who was taken out: all the same.
    let nothing = open(&mut site, &token, Form::Linphone);
    assert_eq!(nothing.0, 404);
    assert_eq!(open(&mut site, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Form::Json), nothing);
    let of = |made: Response| made.body["path"].as_str().unwrap().replace("/provision/", "");
    let late = of(link(&mut site, "alice"));
    let gone = of(link(&mut site, "bob"));
    site.ask(Question::DeleteUser("bob@example.org".parse().unwrap()));
    assert_eq!(open(&mut site, &gone, Form::Json), nothing);
    site.wait(Duration::from_secs(15 * 60));
    assert_eq!(open(&mut site, &late, Form::Json), nothing);
    site.configure("provision", "enabled", json!(false));
    assert_eq!(link(&mut site, "alice").status, 409);
    site.configure("provision", "enabled", json!(true));
    // Without a password none is told, and none is said to be known.
    let again = of(link(&mut site, "alice"));
    let account = Account::from_json(&open(&mut site, &again, Form::Json).1).unwrap();
    assert_eq!(account.sip.unwrap().password, Password::Own);
    let again = of(link(&mut site, "alice"));
    assert!(!open(&mut site, &again, Form::Jitsi).1.contains("PASSWORD"));
}
