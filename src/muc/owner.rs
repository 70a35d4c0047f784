//! `muc#owner`: configuring a room, creating it, ending it (XEP-0045 §10).

use jid::BareJid;
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, FieldType};

use super::error::Fault;
use super::form::{self, Submitted};
use super::limits::MAX_REASON;
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply};
use crate::room::settings::{Settings, Whois};
use crate::room::standing::Affiliation;
use crate::room::{By, Command, Refusal, Room};

impl Muc {
    /// The configuration as a form, for owners (XEP-0045 §10.1.3, §10.2).
    pub(super) fn config_form(&self, head: &Head, room: &Room) -> Result<Element, Fault> {
        let (_, affiliation) = super::standing(room, &head.from);
        if affiliation < Affiliation::Owner {
            return Err(Refusal::Forbidden.into());
        }
        let settings = &room.settings;
        let max_users = settings.max_users.map_or("none".to_owned(), |most| most.to_string());
        let whois = match settings.whois {
            Whois::Anyone => "anyone",
            Whois::Moderators => "moderators",
        };
        let text = FieldType::TextSingle;
        let mut form = DataForm::new(
            DataFormType::Form,
            ns::MUC_ROOM_CONFIG,
            vec![
                form::field(NAME, text.clone(), "Name", &settings.name),
                form::field(DESCRIPTION, text.clone(), "Description", &settings.description),
                form::yes_no(
                    PERSISTENT,
                    "Keep the room when everyone has left?",
                    settings.persistent,
                ),
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
                form::field(
                    MAX_USERS,
                    text.clone(),
                    "Most people in the room, or none",
                    &max_users,
                ),
                form::choice(
                    WHOIS,
                    "Who sees real addresses?",
                    &[("moderators", "Moderators"), ("anyone", "Everyone")],
                    whois,
                ),
                form::yes_no(
                    CHANGE_SUBJECT,
                    "May participants change the subject?",
                    settings.change_subject,
                ),
                form::field(
                    HISTORY,
                    text,
                    "How many messages are newcomers told?",
                    &settings.history.to_string(),
                ),
                form::yes_no(
                    ARCHIVE,
                    "Archive what is said, while the room is kept?",
                    settings.archive,
                ),
            ],
        );
        form.title = Some("Room configuration".to_owned());
        Ok(Xml::new("query", ns::MUC_OWNER).child(Element::from(form)).into())
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
                    Command::Configure(Box::new(configured(&room.settings, &form)?))
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
fn configured(old: &Settings, form: &Submitted) -> Result<Settings, Fault> {
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
        archive: form.boolean(ARCHIVE)?.unwrap_or(old.archive),
    })
}

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
const ARCHIVE: &str = "muc#roomconfig_enablelogging";
