//! What follows by itself: a room's page and the list of events, by server-sent events.
//!
//! A page that is watched is drawn again when something happened in its room, and now and then for
//! what the mixer counts; at most twice a second, however much happens. How loud people are comes
//! five times a second, as numbers. Who reads slowly is sent less, and nothing waits for them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::session::Viewer;
use super::{Part, layout, room, view, words};
use crate::admin::Question;
use crate::clock::{Now, stamp};
use crate::id::{LegId, RoomName};
use crate::io::http::{Http, read_room};

/// `GET /console/rooms/{room}/live`
pub(super) async fn room(
    State(http): State<Http>,
    viewer: Viewer,
    Path(name): Path<String>,
    Query(part): Query<Part>,
) -> Response {
    let name = match read_room(&name) {
        Ok(name) => name,
        Err(refused) => {
            return layout::failed(&viewer, refused.status(), "That is not a name of a room.");
        }
    };
    let shared = http.clone();
    stream(&http, &viewer.clone(), |client| {
        let (legs, shown) = (vec![], String::new());
        Watched { http: shared, viewer, name, part, legs, shown }.follow(client)
    })
}

/// `GET /console/events/live`
pub(super) async fn events(State(http): State<Http>, viewer: Viewer) -> Response {
    stream(&http.clone(), &viewer.clone(), |client| follow_events(http, viewer, client))
}

/// Answers with what `follow` sends, as long as the client stays; in a place that is one of few.
fn stream<F>(http: &Http, viewer: &Viewer, follow: impl FnOnce(Client) -> F) -> Response
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let Ok(place) = http.0.watchers.clone().try_acquire_owned() else {
        let why = "Too many watch already. Load the page again to see how things are.";
        return layout::failed(viewer, StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let (sender, events) = mpsc::channel(WAITING);
    let follows = follow(Client(sender.clone()));
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            _ = follows => {}
        }
        drop(place);
    });
    let events = ReceiverStream::new(events).map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// The browser at the other end.
struct Client(mpsc::Sender<Event>);

impl Client {
    /// Sends an event, once the last ones are on their way; `None`: nobody is there any more.
    async fn send(&self, name: &str, data: &str) -> Option<()> {
        self.0.send(Event::default().event(name).data(data)).await.ok()
    }
}

/// A room's page that somebody looks at.
struct Watched {
    http: Http,
    viewer: Viewer,
    name: RoomName,
    part: Part,
    /// The legs that are on the page.
    legs: Vec<String>,
    /// What was sent last.
    shown: String,
}

impl Watched {
    /// Follows the room until the browser is gone, or the session has ended.
    async fn follow(mut self, client: Client) -> Option<()> {
        let _watch = self.http.0.legs.watch();
        let mut happened = self.http.0.events.subscribe();
        let mut pace = interval(LOOK);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut latest = None;
        let mut stale = true;
        let mut drawn: Option<Instant> = None;
        let mut levels = BTreeMap::new();
        loop {
            tokio::select! {
                event = happened.recv() => match event {
                    Ok(event) if event.data["room"] == self.name.as_str() => {
                        stale = true;
                        latest = Some(words::tell(&event));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => stale = true,
                    Err(RecvError::Closed) => return None,
                },
                _ = pace.tick() => {
                    let since = drawn.map_or(Duration::MAX, |drawn| drawn.elapsed());
                    if (stale && since >= DRAW) || since >= REFRESH {
                        if !self.http.still_admits(Now::read().instant, &self.viewer) {
                            return None;
                        }
                        self.draw(&client).await?;
                        if let Some(words) = latest.take() {
                            client.send("latest", &maud::html! { (words) }.into_string()).await?;
                        }
                        (stale, drawn) = (false, Some(Instant::now()));
                    }
                    self.show_levels(&client, &mut levels).await?;
                }
            }
        }
    }

    /// Sends the room as it is, if that is news.
    async fn draw(&mut self, client: &Client) -> Option<()> {
        let page = self.part.cut(room::PEOPLE);
        let answer = self.viewer.put(&self.http, Question::Room(self.name.clone(), page)).await;
        let markup = match answer.status {
            200 => {
                let now: view::Room = view::read(answer.body);
                let legs = now.people.iter().flat_map(|person| &person.legs);
                self.legs = legs.map(|leg| leg.id.clone()).collect();
                room::live(&self.viewer, &now, &self.part)
            }
            404 => {
                self.legs.clear();
                room::ended(self.name.as_str())
            }
            // It did not answer in time; what is shown is the best that is known.
            _ => return Some(()),
        };
        let html = markup.into_string();
        if html != self.shown {
            client.send("room", &html).await?;
            self.shown = html;
        }
        Some(())
    }

    /// Sends how loud each leg is whose loudness is another one than it was: `{"l2": [-31, true]}`.
    async fn show_levels(
        &self,
        client: &Client,
        told: &mut BTreeMap<String, (i32, bool)>,
    ) -> Option<()> {
        let number = |leg: &str| leg.strip_prefix('l')?.parse().ok().map(LegId);
        let now = self.legs.iter().filter_map(|leg| {
            let voicing = self.http.0.legs.get(number(leg)?)?.voicing;
            Some((leg.clone(), (voicing.level_dbov.round() as i32, voicing.speaking)))
        });
        let now: BTreeMap<_, _> = now.collect();
        let news: serde_json::Map<_, _> = now
            .iter()
            .filter(|(leg, level)| told.get(*leg) != Some(*level))
            .map(|(leg, (level, speaking))| (leg.clone(), json!([level, speaking])))
            .collect();
        *told = now;
        match news.is_empty() {
            true => Some(()),
            false => client.send("levels", &json!(news).to_string()).await,
        }
    }
}

/// Sends what happens, several at a time.
async fn follow_events(http: Http, viewer: Viewer, client: Client) -> Option<()> {
    let mut happened = http.0.events.subscribe();
    let mut pace = interval(DRAW);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut rows, mut missed) = (vec![], 0);
    loop {
        tokio::select! {
            event = happened.recv() => match event {
                Ok(event) if rows.len() < MAX_ROWS => {
                    rows.push(words::row(&event, &stamp(Now::read().utc)));
                }
                Ok(_) => missed += 1,
                Err(RecvError::Lagged(count)) => missed += count,
                Err(RecvError::Closed) => return None,
            },
            _ = pace.tick() => {
                if !http.still_admits(Now::read().instant, &viewer) {
                    return None;
                }
                if rows.is_empty() && missed == 0 {
                    continue;
                }
                // Newest first, as the page has them.
                let html = maud::html! {
                    @if missed > 0 { tr .missed { td colspan="3" { (missed) " more happened than can be shown." } } }
                    @for row in rows.drain(..).rev() { (row) }
                };
                missed = 0;
                client.send("events", &html.into_string()).await?;
            }
        }
    }
}

/// How often loudness is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The least time between two pictures of a room, or two batches of events.
const DRAW: Duration = Duration::from_millis(500);
/// How often a room is drawn in which nothing happens, for what the mixer counts.
const REFRESH: Duration = Duration::from_secs(2);
/// What may wait for a browser that reads slowly.
const WAITING: usize = 4;
/// Events in one batch.
const MAX_ROWS: usize = 50;
