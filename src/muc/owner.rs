//! `muc#owner`: configuring a room, creating it, ending it (XEP-0045 §10).

use std::collections::{BTreeMap, BTreeSet};

use jid::BareJid;
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field, FieldType};
use xmpp_parsers::data_forms_validate::{Datatype, Method, Validate};

use super::error::Fault;
use super::form::{self, Submitted};
use super::limits::{MAX_ITEMS, MAX_REASON};
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply};
use crate::room::person::Who;
use crate::room::settings::{MAX_SLOW_MODE_S, Registration, Settings, Whisperers, Whois};
use crate::room::standing::{Affiliation, Role};
use crate::room::{By, Change, Command, Refusal, Room};

impl Muc {
    /// The configuration as a form, for owners (XEP-0045 §10.1.3, §10.2).
    pub(super) fn config_form(&self, head: &Head, room: &Room) -> Result<Element, Fault> {
        let (_, affiliation) = super::standing(room, &head.from);
        if affiliation < Affiliation::Owner {
            return Err(Refusal::Forbidden.into());
        }
        let mut fields = fields(&room.settings);
        fields.extend([
            self.all_with(room, ADMINS, "Admins", Affiliation::Admin),
            self.all_with(room, OWNERS, "Owners", Affiliation::Owner),
        ]);
        let mut form = DataForm::new(DataFormType::Form, ns::MUC_ROOM_CONFIG, fields);
        form.title = Some("Room configuration".to_owned());
        Ok(Xml::new("query", ns::MUC_OWNER).child(Element::from(form)).into())
    }

    /// Everyone with an affiliation: whoever is not in the submitted list loses it.
    fn all_with(&self, room: &Room, var: &str, label: &str, affiliation: Affiliation) -> Field {
        let with = room.affiliations().filter(|(_, it)| *it == affiliation);
        let jids = with.filter_map(|(who, _)| self.bare(who)).map(|jid| jid.to_string());
        form::list(var, FieldType::JidMulti, label, jids)
    }

    /// How submitted lists of admins and owners differ from what holds. A list that is not there
    /// changes nothing.
    fn relisted(&self, room: &Room, form: &Submitted) -> Result<Vec<Change>, Fault> {
        let mut listed: BTreeMap<Who, Affiliation> = BTreeMap::new();
        let mut unlisted: BTreeSet<&Who> = BTreeSet::new();
        for (var, affiliation) in [(ADMINS, Affiliation::Admin), (OWNERS, Affiliation::Owner)] {
            let Some(values) = form.values(var) else { continue };
            if values.len() > MAX_ITEMS {
                return Err(Fault::too_big("Too many addresses in one list."));
            }
            for value in values.iter().filter(|value| !value.trim().is_empty()) {
                let who = self.who(room, value.trim())?;
                if listed.insert(who, affiliation).is_some_and(|other| other != affiliation) {
                    return Err(Fault::not_acceptable("Someone is listed as admin and as owner."));
                }
            }
            let had = room.affiliations().filter(|(_, it)| *it == affiliation);
            unlisted.extend(had.map(|(who, _)| who));
        }
        let change = |who: &Who, affiliation| Change::Affiliation {
            who: who.clone(),
            affiliation,
            reason: None,
        };
        let had: BTreeMap<&Who, Affiliation> = room.affiliations().collect();
        let given = listed.iter().filter(|(who, it)| had.get(who) != Some(it));
        let given = given.map(|(who, affiliation)| change(who, *affiliation));
        let taken = unlisted.into_iter().filter(|who| !listed.contains_key(who));
        let taken = taken.map(|who| change(who, Affiliation::None));
        Ok(given.chain(taken).collect())
    }

    /// A submitted or cancelled form, an instant room, or the end of the room.
    pub(super) fn owner_set(
        &self,
        head: &Head,
        room: &Room,
        query: &Element,
    ) -> Result<Ask, Fault> {
        let chat = head.session()?;
        let mut children = query.children();
        let (Some(child), None) = (children.next(), children.next()) else {
            return Err(Fault::bad_request("An owner sends one form, or destroy."));
        };
        let command = match (child.name(), child.ns().as_str()) {
            ("destroy", ns::MUC_OWNER) => destroy(child)?,
            ("x", ns::DATA_FORMS) => match form::form_type(child) {
                "submit" => {
                    let form = Submitted::read(child, ns::MUC_ROOM_CONFIG)?;
                    let settings = Box::new(configured(&room.settings, &form)?);
                    Command::Reconfigure { settings, affiliations: self.relisted(room, &form)? }
                }
                "cancel" => Command::CancelConfiguration,
                _ => return Err(Fault::bad_request("A form is submitted or cancelled.")),
            },
            _ => return Err(Fault::bad_request("An owner sends one form, or destroy.")),
        };
        let (room, by) = (room.name.clone(), By::Chat(chat.clone()));
        Ok(Ask { room, by, command, reply: Reply::Iq(head.clone()) })
    }
}

/// A room's settings as fields of a form (XEP-0045 §16.5.3).
pub(super) fn fields(settings: &Settings) -> Vec<Field> {
    let max_users = settings.max_users.map_or("none".to_owned(), |most| most.to_string());
    let whois = match settings.whois {
        Whois::Anyone => "anyone",
        Whois::Moderators => "moderators",
    };
    let text = FieldType::TextSingle;
    vec![
        form::field(NAME, text.clone(), "Name", &settings.name),
        form::field(DESCRIPTION, text.clone(), "Description", &settings.description),
        form::yes_no(PERSISTENT, "Keep the room when everyone has left?", settings.persistent),
        form::yes_no(PUBLIC, "List the room publicly?", settings.public),
        form::yes_no(MODERATED, "Newcomers need to be given voice?", settings.moderated),
        form::yes_no(MEMBERS_ONLY, "Only members may enter?", settings.members_only),
        form::yes_no(PROTECTED, "Is a password needed?", settings.password.is_some()),
        form::field(
            SECRET,
            FieldType::TextPrivate,
            "Password",
            settings.password.as_deref().unwrap_or(""),
        ),
        form::field(MAX_USERS, text.clone(), "Most people in the room, or none", &max_users),
        form::choice(
            WHOIS,
            "Who sees real addresses?",
            &[("moderators", "Moderators"), ("anyone", "Everyone")],
            whois,
        ),
        change_subject(settings),
        allow_pm(settings),
        allow_invites(settings),
        registration(settings),
        form::choices(
            BROADCAST,
            "Whose presence is shown to the others?",
            ROLES,
            settings.presence_broadcast.iter().map(|role| role.as_str()),
        ),
        form::choices(
            MEMBER_LIST,
            "Who may read the list of members?",
            ROLES,
            settings.member_list.iter().map(|role| role.as_str()),
        ),
        form::field(LANG, text.clone(), "Language of the room", &settings.lang),
        form::field(
            HISTORY,
            text,
            "How many messages are newcomers told?",
            &settings.history.to_string(),
        ),
        slow_mode(settings),
        form::yes_no(ARCHIVE, "Archive what is said, while the room is kept?", settings.archive),
    ]
}

/// Whether a field is a setting of a room.
pub(super) fn is_setting(var: &str) -> bool {
    ["muc#roomconfig_", OWN].iter().any(|prefix| var.starts_with(prefix)) || var == HISTORY
}

/// XEP-0045 §10.9.
fn destroy(destroy: &Element) -> Result<Command, Fault> {
    let alternate = destroy
        .attr("jid")
        .map(BareJid::new)
        .transpose()
        .map_err(|_| Fault::jid_malformed("The alternate room has no legal address."))?;
    let reason = xml::child_text(destroy, "reason", ns::MUC_OWNER)
        .map(|reason| xml::cut(&reason, MAX_REASON).to_owned())
        .filter(|reason| !reason.is_empty());
    Ok(Command::Destroy { reason, alternate })
}

/// The settings with what a form changes of them; fields that it leaves out, and fields that we do
/// not know, change nothing (XEP-0045 §10.1.3).
pub(super) fn configured(old: &Settings, form: &Submitted) -> Result<Settings, Fault> {
    let text = |var, old: &str| form.text(var).unwrap_or(old).trim().to_owned();
    let protected = form.boolean(PROTECTED)?.unwrap_or(old.password.is_some());
    let password = match (protected, form.text(SECRET)) {
        (false, _) => None,
        (true, Some("")) => {
            return Err(Fault::not_acceptable("A password-protected room needs a password."));
        }
        (true, Some(secret)) => Some(secret.to_owned()),
        (true, None) => {
            let missing = Fault::not_acceptable("A password-protected room needs a password.");
            Some(old.password.clone().ok_or(missing)?)
        }
    };
    let number = |text: &str| {
        text.trim().parse::<u32>().map_err(|_| Fault::not_acceptable("A number is expected."))
    };
    let max_users = match form.text(MAX_USERS) {
        None => old.max_users,
        Some("" | "none" | "0") => None,
        Some(text) => Some(number(text)?),
    };
    let whois = match form.text(WHOIS) {
        None => old.whois,
        Some("anyone") => Whois::Anyone,
        Some("moderators") => Whois::Moderators,
        Some(_) => return Err(Fault::not_acceptable("Addresses are for moderators or anyone.")),
    };
    let allow_pm = match form.text(ALLOW_PM) {
        None => old.allow_pm,
        Some(word) => WHISPERERS
            .iter()
            .find(|(_, value, _)| *value == word)
            .map(|(whisperers, ..)| *whisperers)
            .ok_or(Fault::not_acceptable(
                "Private messages are for anyone, participants, moderators or none.",
            ))?,
    };
    let registration = match form.text(REGISTRATION) {
        None => old.registration,
        Some(word) => REGISTRATIONS
            .iter()
            .find(|(_, value, _)| *value == word)
            .map(|(registration, ..)| *registration)
            .ok_or(Fault::not_acceptable(
                "Registration is open, unguarded, by approval or closed.",
            ))?,
    };
    let roles = |var, old: &BTreeSet<Role>| match form.values(var) {
        None => Ok(old.clone()),
        Some(words) => {
            let words = words.iter().filter(|word| !word.is_empty());
            let roles = words.map(|word| Role::parse(word)).collect::<Option<_>>();
            roles.ok_or(Fault::not_acceptable("A list of roles holds something else."))
        }
    };
    Ok(Settings {
        name: text(NAME, &old.name),
        description: form.lines(DESCRIPTION).unwrap_or(old.description.clone()),
        moderated: form.boolean(MODERATED)?.unwrap_or(old.moderated),
        members_only: form.boolean(MEMBERS_ONLY)?.unwrap_or(old.members_only),
        password,
        max_users,
        persistent: form.boolean(PERSISTENT)?.unwrap_or(old.persistent),
        public: form.boolean(PUBLIC)?.unwrap_or(old.public),
        whois,
        change_subject: form.boolean(CHANGE_SUBJECT)?.unwrap_or(old.change_subject),
        history: form.text(HISTORY).map_or(Ok(old.history), number)?,
        allow_pm,
        allow_invites: form.boolean(ALLOW_INVITES)?.unwrap_or(old.allow_invites),
        registration,
        presence_broadcast: roles(BROADCAST, &old.presence_broadcast)?,
        member_list: roles(MEMBER_LIST, &old.member_list)?,
        lang: text(LANG, &old.lang),
        slow_mode_s: form.text(SLOW_MODE).map_or(Ok(old.slow_mode_s), number)?,
        archive: form.boolean(ARCHIVE)?.unwrap_or(old.archive),
    })
}

/// Fields that tell everyone what owners chose (XEP-0045 §6.4).
pub(super) fn change_subject(settings: &Settings) -> Field {
    form::yes_no(CHANGE_SUBJECT, "May participants change the subject?", settings.change_subject)
}

/// See [`change_subject`].
pub(super) fn allow_invites(settings: &Settings) -> Field {
    let label = "May members invite to a members-only room?";
    form::yes_no(ALLOW_INVITES, label, settings.allow_invites)
}

/// See [`change_subject`].
pub(super) fn allow_pm(settings: &Settings) -> Field {
    let options = WHISPERERS.map(|(_, value, label)| (value, label));
    let chosen = WHISPERERS.iter().find(|(whisperers, ..)| *whisperers == settings.allow_pm);
    let chosen = chosen.map_or("anyone", |(_, value, _)| *value);
    form::choice(ALLOW_PM, "Who may send private messages?", &options, chosen)
}

/// No field of the registry, so its name says whose it is (XEP-0068 §4).
fn registration(settings: &Settings) -> Field {
    let options = REGISTRATIONS.map(|(_, value, label)| (value, label));
    let chosen = REGISTRATIONS.iter().find(|(it, ..)| *it == settings.registration);
    let chosen = chosen.map_or("unguarded", |(_, value, _)| *value);
    form::choice(REGISTRATION, "Who becomes a member by registering?", &options, chosen)
}

/// XEP-0500 §4.1.
fn slow_mode(settings: &Settings) -> Field {
    let pace = settings.slow_mode_s.to_string();
    let label = "Seconds between two messages of one user, or 0";
    let mut field = form::field(SLOW_MODE, FieldType::TextSingle, label, &pace);
    field.validate = Some(Validate {
        datatype: Some(Datatype::Integer),
        method: Some(Method::Range {
            min: Some("0".to_owned()),
            max: Some(MAX_SLOW_MODE_S.to_string()),
        }),
        list_range: None,
    });
    field
}

const WHISPERERS: [(Whisperers, &str, &str); 4] = [
    (Whisperers::Anyone, "anyone", "Everyone"),
    (Whisperers::Participants, "participants", "Who has voice"),
    (Whisperers::Moderators, "moderators", "Moderators"),
    (Whisperers::None, "none", "Nobody"),
];
const REGISTRATIONS: [(Registration, &str, &str); 4] = [
    (Registration::Open, "open", "Anyone"),
    (Registration::Unguarded, "unguarded", "Anyone, while everyone may enter and speak"),
    (Registration::Approval, "approval", "Whom an admin approves"),
    (Registration::Closed, "closed", "Nobody"),
];
const ROLES: &[(&str, &str)] =
    &[("moderator", "Moderators"), ("participant", "Participants"), ("visitor", "Visitors")];

// XEP-0045 §16.5.3.
const NAME: &str = "muc#roomconfig_roomname";
const DESCRIPTION: &str = "muc#roomconfig_roomdesc";
const PERSISTENT: &str = "muc#roomconfig_persistentroom";
const PUBLIC: &str = "muc#roomconfig_publicroom";
const MODERATED: &str = "muc#roomconfig_moderatedroom";
const MEMBERS_ONLY: &str = "muc#roomconfig_membersonly";
const PROTECTED: &str = "muc#roomconfig_passwordprotectedroom";
const SECRET: &str = "muc#roomconfig_roomsecret";
const MAX_USERS: &str = "muc#roomconfig_maxusers";
const WHOIS: &str = "muc#roomconfig_whois";
const CHANGE_SUBJECT: &str = "muc#roomconfig_changesubject";
const HISTORY: &str = "muc#maxhistoryfetch";
const ALLOW_PM: &str = "muc#roomconfig_allowpm";
const ALLOW_INVITES: &str = "muc#roomconfig_allowinvites";
const BROADCAST: &str = "muc#roomconfig_presencebroadcast";
const MEMBER_LIST: &str = "muc#roomconfig_getmemberlist";
const LANG: &str = "muc#roomconfig_lang";
const SLOW_MODE: &str = "muc#roomconfig_slow_mode_duration";
const ADMINS: &str = "muc#roomconfig_roomadmins";
const OWNERS: &str = "muc#roomconfig_roomowners";
const ARCHIVE: &str = "muc#roomconfig_enablelogging";
/// What the fields begin with that are ours alone.
const OWN: &str = "{urn:x-cusax:roomconfig}";
const REGISTRATION: &str = "{urn:x-cusax:roomconfig}registration";
