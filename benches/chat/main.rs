//! What large rooms cost, side by side with Prosody's own `muc` on the same machine in the same run:
//! a room of 1,000, messages in it, 10,000 idle rooms.
//!
//! `make bench-chat`, or `cargo bench --bench chat`, prints tables; the numbers that may follow `--` are occupants, messages,
//! and rooms. Every scenario is played three times: to Prosody that keeps the
//! rooms itself, to our server behind Prosody, and, where no client has a part in it, to our server
//! over a component link that ends here. CPU time is that of the servers alone, kernel included.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and waits")]

mod client;
mod component;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use client::{Client, Dialog, Seen};
use component::Port;
use server::{Keeper, ROOMS, Site, Usage, cusaxd};

/// How much of it.
#[derive(Clone, Copy, Debug)]
struct Load {
    occupants: u64,
    messages: u64,
    rooms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let numbers = std::env::args().skip(1).filter(|it| it != "--bench");
    let numbers: Vec<u64> = numbers.map(|it| it.parse()).collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let load =
        Load { occupants: number(0, 1_000), messages: number(1, 100), rooms: number(2, 10_000) };
    if cfg!(debug_assertions) {
        println!("This is not an optimised build: the figures are of no use.\n");
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chat");
    std::fs::remove_dir_all(&dir).ok();
    println!("CPU time of the servers, user and system, in µs for each stanza that arrived:\n");
    println!("| scenario | rooms kept by | stanzas | s | Prosody | cusaxd | both | MiB |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for keeper in [Keeper::Prosody, Keeper::Cusaxd] {
        crowd(keeper, &dir.join(format!("crowd-{keeper:?}")), load).await?;
    }
    alone(&dir.join("alone"), load).await?;

    println!("\n{} rooms that persist, each made, configured and left by one user:\n", load.rooms);
    println!("| rooms kept by | ms a room | KiB a room, then | KiB a room, after a restart |");
    println!("| --- | ---: | ---: | ---: |");
    for keeper in [Keeper::Prosody, Keeper::Cusaxd] {
        idle(keeper, &dir.join(format!("idle-{keeper:?}")), load.rooms).await?;
    }
    Ok(())
}

/// One room that fills up, and messages to all in it.
async fn crowd(keeper: Keeper, dir: &Path, load: Load) -> Result<()> {
    let site = Site::start(keeper, dir.to_owned())?;
    let all = Arc::new(Seen::default());
    let mut owner = Dialog::login(site.clients).await?;
    make(&mut owner, "hall").await?;
    leave(&mut owner, "hall").await?;
    let mut clients = vec![];
    for _ in 0..load.occupants {
        clients.push(Client::login(site.clients, Arc::clone(&all)).await?);
    }
    let (begun, before) = (Instant::now(), site.usage());
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&enter("hall", number)).await?;
        client.seen.until("an entry", &client.seen.subjects, 1).await?;
        pace(number).await;
    }
    // Each sees each once.
    let presences = load.occupants * load.occupants;
    all.until("presences", &all.presences, presences).await?;
    let what = format!("{} enter", load.occupants);
    row(&what, keeper, presences, begun, site.usage().since(before), site.resident());

    let (begun, before) = (Instant::now(), site.usage());
    for number in 0..load.messages {
        let from = usize::try_from(number)? % clients.len();
        clients[from].send(&say("hall", number)).await?;
        let enough = (number + 1) * load.occupants;
        all.until("messages", &all.bodies, enough).await?;
    }
    let bodies = load.messages * load.occupants;
    let what = format!("messages to {}", load.occupants);
    row(&what, keeper, bodies, begun, site.usage().since(before), site.resident());
    ensure!(all.errors.load(SeqCst) == 0, "the server refused something");
    Ok(())
}

fn row(what: &str, keeper: Keeper, stanzas: u64, begun: Instant, usage: Usage, resident: u64) {
    let each = |seconds: f64| seconds * 1e6 / stanzas as f64;
    let ours = usage.cusaxd.map_or("–".to_owned(), |seconds| format!("{:.2}", each(seconds)));
    println!(
        "| {what} | {} | {stanzas} | {:.1} | {:.2} | {ours} | {:.2} | {:.1} |",
        name(keeper),
        begun.elapsed().as_secs_f64(),
        each(usage.prosody),
        each(usage.sum()),
        resident as f64 / 1024.0,
    );
}

/// The same, over a component link that ends here.
async fn alone(dir: &Path, load: Load) -> Result<()> {
    let port = Port::open().await?;
    let process = cusaxd(dir, port.number()?)?;
    let mut link = port.accept().await?;
    let seen = Arc::clone(&link.seen);
    let from = |xml: &str, number: u64| {
        xml.replacen(' ', &format!(" from='u{number}@users.test/{number}' "), 1)
    };
    link.send(&from(&enter("hall", usize::MAX), 0)).await?;
    seen.until("an entry", &seen.subjects, 1).await?;
    for xml in [configure("hall"), exit("hall")] {
        link.send(&from(&xml, 0)).await?;
    }
    seen.until("the owner's leave", &seen.presences, 2).await?;
    let own = seen.presences.load(SeqCst);
    let empty = process.resident();

    let (begun, before) = (Instant::now(), process.cpu());
    for number in 0..load.occupants {
        let at = usize::try_from(number)?;
        link.send(&from(&enter("hall", at), number)).await?;
        pace(at).await;
        let entered = own + (number + 1) * (number + 1);
        seen.until("presences", &seen.presences, entered).await?;
    }
    let presences = load.occupants * load.occupants;
    let what = format!("{} enter", load.occupants);
    direct(&what, presences, begun, process.cpu() - before, process.resident());
    let (begun, before) = (Instant::now(), process.cpu());
    for number in 0..load.messages {
        link.send(&from(&say("hall", number), number % load.occupants)).await?;
        seen.until("messages", &seen.bodies, (number + 1) * load.occupants).await?;
    }
    let bodies = load.messages * load.occupants;
    let what = format!("messages to {}", load.occupants);
    direct(&what, bodies, begun, process.cpu() - before, process.resident());
    let each = (process.resident() - empty) as f64 / load.occupants as f64;
    println!("\nmemory of one of {} occupants, in cusaxd: {each:.1} KiB", load.occupants);
    ensure!(seen.errors.load(SeqCst) == 0, "the server refused something");
    Ok(())
}

/// After the first 200, our rooms take 50 entries a second.
async fn pace(number: usize) {
    if number >= 190 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn direct(what: &str, stanzas: u64, begun: Instant, cpu: f64, resident: u64) {
    println!(
        "| {what} | cusaxd alone | {stanzas} | {:.1} | – | {:.2} | – | {:.1} |",
        begun.elapsed().as_secs_f64(),
        cpu * 1e6 / stanzas as f64,
        resident as f64 / 1024.0,
    );
}

/// Rooms that persist, with nobody in.
async fn idle(keeper: Keeper, dir: &Path, rooms: u64) -> Result<()> {
    let site = Site::start(keeper, dir.to_owned())?;
    let mut owner = Dialog::login(site.clients).await?;
    make(&mut owner, "first").await?;
    leave(&mut owner, "first").await?;
    let (begun, before) = (Instant::now(), site.resident());
    for number in 0..rooms {
        let room = format!("room-{number}");
        make(&mut owner, &room).await?;
        leave(&mut owner, &room).await?;
    }
    let each = |after: u64, before: u64| (after as f64 - before as f64) / rooms as f64;
    let took = begun.elapsed().as_secs_f64() * 1e3 / rooms as f64;
    let then = each(site.resident(), before);
    let site = site.restart()?;
    let _watcher = Dialog::login(site.clients).await?;
    let after = site.resident();
    let fresh = Site::start(keeper, dir.join("empty"))?;
    let restarted = each(after, fresh.resident());
    println!("| {} | {took:.1} | {then:.2} | {restarted:.2} |", name(keeper));
    Ok(())
}

async fn make(owner: &mut Dialog, room: &str) -> Result<()> {
    owner.ask(&enter(room, usize::MAX), "<subject").await?;
    owner.ask(&configure(room), "<iq").await?;
    Ok(())
}

async fn leave(owner: &mut Dialog, room: &str) -> Result<()> {
    owner.ask(&exit(room), "unavailable").await?;
    owner.ask("", "</presence>").await?;
    Ok(())
}

fn enter(room: &str, number: usize) -> String {
    let nick = if number == usize::MAX { "owner".to_owned() } else { format!("n{number}") };
    format!(
        "<presence to='{room}@{ROOMS}/{nick}'><x xmlns='http://jabber.org/protocol/muc'>\
         <history maxstanzas='0'/></x></presence>"
    )
}

fn configure(room: &str) -> String {
    format!(
        "<iq to='{room}@{ROOMS}' type='set' id='c'><query xmlns='http://jabber.org/protocol/muc#owner'>\
         <x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
         <value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_persistentroom'><value>1</value></field></x></query></iq>"
    )
}

fn exit(room: &str) -> String {
    format!("<presence to='{room}@{ROOMS}/owner' type='unavailable'/>")
}

fn say(room: &str, number: u64) -> String {
    format!(
        "<message to='{room}@{ROOMS}' type='groupchat' id='m{number}'>\
         <body>This is message {number}, as long as most.</body></message>"
    )
}

fn name(keeper: Keeper) -> &'static str {
    match keeper {
        Keeper::Prosody => "Prosody",
        Keeper::Cusaxd => "cusaxd behind Prosody",
    }
}
