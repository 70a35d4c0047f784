//! `cusax login`: both accounts, from the service or by hand.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use crossterm::event::{Event, KeyCode, KeyModifiers, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use cusax::account::{Account, Conference, Features, Password, Sip, Transport, VERSION, Xmpp};
use cusax::identity::Aor;
use cusax_client::driver::Roots;
use cusax_client::driver::fetch::{Answer, fetch};
use cusax_client::provision::{Came, Unfit, places};
use jid::BareJid;

use crate::account::Saved;
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Who you are at the service, as in alice@example.org.
    user: String,
    /// Where the service tells clients what to set up; without it, as the domain says.
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Set up by hand: ask nobody.
    #[arg(long, conflicts_with = "from")]
    by_hand: bool,
    /// By hand: the XMPP server, HOST or HOST:PORT.
    #[arg(long, requires = "by_hand", value_name = "HOST")]
    xmpp_server: Option<String>,
    /// By hand: the SIP address, if it is not sip:USER.
    #[arg(long, requires = "by_hand", value_name = "ADDRESS")]
    sip: Option<Aor>,
    /// By hand: the SIP proxy, HOST or HOST:PORT.
    #[arg(long, requires = "by_hand", value_name = "HOST")]
    sip_proxy: Option<String>,
    /// By hand: how SIP is spoken: tls, tcp or udp.
    #[arg(long, requires = "by_hand", default_value = "tls", value_name = "WORD")]
    transport: String,
    /// By hand: do not register, so that nobody can call.
    #[arg(long, requires = "by_hand")]
    no_register: bool,
    /// By hand: the domain of the rooms, and of their calls if that is another.
    #[arg(long, requires = "by_hand", value_name = "DOMAIN[,DOMAIN]")]
    rooms: Option<String>,
    /// By hand: the name that others see.
    #[arg(long, requires = "by_hand")]
    name: Option<String>,
    /// A file with the authorities to believe, instead of the system's.
    #[arg(long, value_name = "PEM")]
    authorities: Option<PathBuf>,
    /// The password comes as a line of standard input.
    #[arg(long)]
    password_stdin: bool,
}

/// Finds out what to set up, and stores it.
pub(crate) async fn login(login: Login, path: &Path) -> anyhow::Result<Exit> {
    let jid = BareJid::new(&login.user).with_context(|| format!("{} is no address", login.user))?;
    let password = password(login.password_stdin)?;
    let roots = match &login.authorities {
        None => Roots::System,
        Some(file) => {
            Roots::Pem(std::fs::read(file).with_context(|| format!("{}", file.display()))?)
        }
    };
    let authorities = login.authorities.as_ref().map(std::fs::canonicalize).transpose()?;
    let saved = if login.by_hand {
        Saved::new(by_hand(&login, jid)?, password, None, authorities)
    } else {
        match ask(&login, &jid, &password, &roots).await? {
            Ok((account, sip_password)) => Saved::new(account, password, sip_password, authorities),
            Err(exit) => return Ok(exit),
        }
    };
    saved.save(path)?;
    let Account { xmpp, sip, related, .. } = &saved.account;
    if let Some(xmpp) = xmpp {
        println!("Chat: {}", xmpp.jid);
    }
    if let Some(sip) = sip {
        println!("Voice and video: {}", sip.aor);
    }
    let belong = if *related { "They belong together. " } else { "" };
    println!("{belong}Written to {}.", path.display());
    Ok(Exit::Fine)
}

/// What the service says.
async fn ask(
    login: &Login,
    jid: &BareJid,
    password: &str,
    roots: &Roots,
) -> anyhow::Result<Result<(Account, Option<String>), Exit>> {
    let typed = login.from.clone().unwrap_or_else(|| jid.to_string());
    let places = match places(&typed) {
        Ok(places) => places,
        Err(Unfit::Nonsense) => bail!("{typed} is no URL and no domain"),
        Err(Unfit::NotEncrypted) => {
            bail!("{typed} would show your password to everybody on the way")
        }
    };
    let mut last = String::new();
    for place in places {
        let answer = fetch(&place, &login.user, password, roots).await;
        last = match answer {
            Ok(Answer::Accounts(account, secrets)) => return Ok(Ok((*account, secrets.sip))),
            Ok(Answer::Other(Came::Status { code: 401, .. })) => {
                eprintln!("cusax: {} says: wrong name or password", place.url);
                return Ok(Err(Exit::Password));
            }
            Ok(Answer::Other(Came::Status { code, .. })) => format!("{} answers {code}", place.url),
            Ok(Answer::Other(Came::Document { .. } | Came::Nothing)) => {
                format!("{} gives no account", place.url)
            }
            Ok(Answer::Elsewhere(to)) => {
                format!("{} leads to {}; if you trust that, --from {}", place.url, to.url, to.url)
            }
            Err(lost) => lost.to_string(),
        };
        eprintln!("cusax: {last}");
    }
    eprintln!("cusax: {} does not say what to set up; --by-hand does", typed);
    let unreachable = last.contains("cannot be reached");
    Ok(Err(if unreachable { Exit::Unreachable } else { Exit::Refused }))
}

/// What the person says.
fn by_hand(login: &Login, jid: BareJid) -> anyhow::Result<Account> {
    let transport = match login.transport.as_str() {
        "tls" => Transport::Tls,
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        other => bail!("--transport {other} is none of tls, tcp and udp"),
    };
    let aor = match (&login.sip, jid.node()) {
        (Some(aor), _) => aor.clone(),
        (None, Some(node)) => Aor::new(node.as_str(), jid.domain().as_str())
            .context("the address is none that SIP knows: --sip says which")?,
        (None, None) => bail!("{jid} names nobody"),
    };
    let related = aor.host() == jid.domain().as_str() || login.sip.is_some();
    let conference = login.rooms.as_ref().map(|rooms| {
        let (xmpp, sip) = rooms.split_once(',').unwrap_or((rooms, rooms));
        Conference { xmpp_domain: xmpp.to_owned(), sip_domain: sip.to_owned() }
    });
    Ok(Account {
        version: VERSION,
        name: login.name.clone(),
        xmpp: Some(Xmpp { jid, server: login.xmpp_server.clone(), password: Password::Own }),
        sip: Some(Sip {
            realm: aor.host().to_owned(),
            aor,
            proxy: login.sip_proxy.clone(),
            register: !login.no_register,
            transports: vec![transport],
            password: Password::Own,
        }),
        related,
        conference,
        features: Features::default(),
        refresh_s: 0,
    })
}

/// The password, which nobody reads on the screen.
fn password(from_stdin: bool) -> anyhow::Result<String> {
    if from_stdin || !stdin().is_terminal() {
        let mut line = String::new();
        stdin().read_line(&mut line).context("no password came")?;
        let password = line.trim_end_matches(['\r', '\n']).to_owned();
        anyhow::ensure!(!password.is_empty(), "no password came");
        return Ok(password);
    }
    print!("Password: ");
    stdout().flush()?;
    enable_raw_mode()?;
    let typed = type_secret();
    disable_raw_mode()?;
    println!();
    typed
}

fn type_secret() -> anyhow::Result<String> {
    let mut typed = String::new();
    loop {
        let Event::Key(key) = read()? else { continue };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        #[expect(clippy::wildcard_enum_match_arm, reason = "other keys do nothing")]
        match key.code {
            KeyCode::Enter => return Ok(typed),
            KeyCode::Char('c' | 'd') if control => bail!("no password came"),
            KeyCode::Char(c) if !control => typed.push(c),
            KeyCode::Backspace => {
                typed.pop();
            }
            _ => {}
        }
    }
}
