//! Two connections, one service (RFC 7081 §2): when to connect which, what to do when one is lost, when to
//! try again, and what to show.
//!
//! Each connection is somebody else's: this only asks for it to be made or ended, and is told what came of
//! it. An account that refuses the client is not asked again until the person has done something about it;
//! what cannot be reached is tried again after a time that grows and is random, so that not all clients of
//! a service come back at once (RFC 6120 §3.3, RFC 5626 §4.5).

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// XMPP: messages and presence.
    Chat,
    /// SIP: calls.
    Voice,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Chat, Self::Voice];

    /// What people read: not the protocol's name (RFC 7081 §2).
    pub const fn title(self) -> &'static str {
        match self {
            Self::Chat => "Chat",
            Self::Voice => "Voice and video",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Chat => Self::Voice,
            Self::Voice => Self::Chat,
        }
    }
}

/// How a client, or its provider, wants the two to depend on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which is connected first.
    pub order: Order,
    /// What the loss of one does.
    pub loss: Loss,
}

/// Which connection comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Both at once.
    #[default]
    Together,
    /// Chat only once SIP is registered: who appears online can be called (RFC 7081 §2).
    VoiceFirst,
}

/// What the loss of one connection does (RFC 7081 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// The other goes on; the states show it, and nothing else is said.
    Keep,
    /// The other goes on, and the person is told.
    #[default]
    Warn,
    /// The other is ended as well: it is both or nothing.
    DropBoth,
}

/// Why a connection is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It could not be made, or was lost: no route, silence, a server that is going down.
    Unreachable,
    /// The server is not who it ought to be, or less protected than before.
    NotTrusted,
    /// Name or password are wrong.
    WrongPassword,
    /// The server knows the account and does not let it in.
    Refused,
    /// Another client of the person took the place, and asked for this one to be gone.
    Replaced,
}

impl Fault {
    /// Whether only the person can mend it.
    pub const fn needs_person(self) -> bool {
        match self {
            Self::Unreachable => false,
            Self::NotTrusted | Self::WrongPassword | Self::Refused | Self::Replaced => true,
        }
    }
}

/// Where one connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not wanted.
    Off,
    /// It waits for the other one.
    Held,
    /// It is being made.
    Connecting,
    /// It is there.
    Up,
    /// It will be tried again at that time.
    Waiting {
        /// When.
        until: Instant,
        /// What was wrong.
        fault: Fault,
    },
    /// It is not tried again before [`Connections::retry`].
    Stopped(Fault),
}

/// What the person has of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Nothing, and nothing is wanted.
    Off,
    /// Nothing yet.
    Connecting,
    /// Chat and calls.
    Whole,
    /// One of the two alone.
    Only(Side),
    /// Nothing, and something is wrong.
    Down,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make this connection, and tell with [`Connections::handle_up`] or [`Connections::handle_lost`].
    Connect(Side),
    /// End this connection, or give up making it. Nothing needs to be told.
    Disconnect(Side),
    /// Tell the person that this side is gone, and why.
    Warn(Side, Fault),
    /// Tell the person, who was warned, that this side is back.
    Restored(Side),
}

/// The two connections of one service.
#[derive(Debug)]
pub struct Connections {
    policy: Policy,
    chat: Connection,
    voice: Connection,
    random: StdRng,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    state: State,
    /// How often in a row it was not there for [`STABLE`].
    failures: u32,
    up_since: Option<Instant>,
    warned: bool,
}

impl Connections {
    /// Neither is wanted yet. The seed decides how long waits are: another one in each client.
    pub fn new(policy: Policy, seed: [u8; 32]) -> Self {
        let off = Connection { state: State::Off, failures: 0, up_since: None, warned: false };
        Self { policy, chat: off, voice: off, random: StdRng::from_seed(seed) }
    }

    /// Where a connection is.
    pub fn state(&self, side: Side) -> State {
        self.one(side).state
    }

    /// What the person has.
    pub fn service(&self) -> Service {
        let up = |side| self.state(side) == State::Up;
        let states = Side::ALL.map(|side| self.state(side));
        match (up(Side::Chat), up(Side::Voice)) {
            (true, true) => Service::Whole,
            (true, false) => Service::Only(Side::Chat),
            (false, true) => Service::Only(Side::Voice),
            (false, false) if states == [State::Off; 2] => Service::Off,
            (false, false) => {
                let wrong =
                    |state: &State| matches!(state, State::Waiting { .. } | State::Stopped(_));
                if states.iter().any(wrong) { Service::Down } else { Service::Connecting }
            }
        }
    }

    /// Wants both. Does nothing about what is wanted already.
    pub fn start(&mut self) -> Vec<Step> {
        for side in Side::ALL {
            let one = self.one_mut(side);
            if one.state == State::Off {
                one.state = State::Held;
            }
        }
        self.advance()
    }

    /// Wants neither.
    pub fn stop(&mut self) -> Vec<Step> {
        let steps = Side::ALL.into_iter().filter_map(|side| {
            let one = self.one_mut(side);
            let open = one.is_open();
            *one = Connection { state: State::Off, failures: 0, up_since: None, warned: false };
            open.then_some(Step::Disconnect(side))
        });
        steps.collect()
    }

    /// Takes note that a connection that was asked for is there: logged in, or registered.
    pub fn handle_up(&mut self, now: Instant, side: Side) -> Vec<Step> {
        let one = self.one_mut(side);
        if one.state != State::Connecting {
            // What came too late is not wanted any more.
            return if one.is_open() { vec![] } else { vec![Step::Disconnect(side)] };
        }
        one.state = State::Up;
        one.up_since = Some(now);
        let restored = std::mem::take(&mut one.warned).then_some(Step::Restored(side));
        restored.into_iter().chain(self.advance()).collect()
    }

    /// Takes note that a connection could not be made, or is lost. `after` is the time for which the
    /// server wants to be left alone, if it said so (RFC 3261 §20.33).
    pub fn handle_lost(
        &mut self,
        now: Instant,
        side: Side,
        fault: Fault,
        after: Option<Duration>,
    ) -> Vec<Step> {
        if !self.one(side).is_open() {
            return vec![];
        }
        let loss = self.policy.loss;
        let spread = self.random.random_range(0.5..1.0);
        let one = self.one_mut(side);
        let was_up = one.up_since.take();
        if was_up.is_some_and(|since| now.saturating_duration_since(since) >= STABLE) {
            one.failures = 0;
        }
        let wait = FIRST.saturating_mul(1 << one.failures.min(16)).min(LONGEST).mul_f64(spread);
        one.failures = one.failures.saturating_add(1);
        one.state = if fault.needs_person() {
            State::Stopped(fault)
        } else {
            State::Waiting { until: now + wait.max(after.unwrap_or_default()).min(LONGEST), fault }
        };
        let mut steps = vec![];
        if fault.needs_person() || (was_up.is_some() && loss != Loss::Keep) {
            one.warned = true;
            steps.push(Step::Warn(side, fault));
        }
        if loss == Loss::DropBoth {
            let other = self.one_mut(side.other());
            if other.is_open() {
                other.state = State::Held;
                other.up_since = None;
                steps.push(Step::Disconnect(side.other()));
            }
        }
        steps.extend(self.advance());
        steps
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Side::ALL.into_iter().filter_map(|side| self.one(side).until()).min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Step> {
        for side in Side::ALL {
            let one = self.one_mut(side);
            if one.until().is_some_and(|until| until <= now) {
                one.state = State::Held;
            }
        }
        self.advance()
    }

    /// Tries at once what waits: the network came back, or is another one.
    pub fn handle_network(&mut self) -> Vec<Step> {
        for side in Side::ALL {
            let one = self.one_mut(side);
            if one.until().is_some() {
                one.state = State::Held;
            }
        }
        self.advance()
    }

    /// Tries at once what waits or was stopped: the person wants it, or gave another password.
    pub fn retry(&mut self) -> Vec<Step> {
        for side in Side::ALL {
            let one = self.one_mut(side);
            if one.until().is_some() || matches!(one.state, State::Stopped(_)) {
                one.state = State::Held;
                one.failures = 0;
            }
        }
        self.advance()
    }

    /// Connects what is held and may be connected.
    fn advance(&mut self) -> Vec<Step> {
        let mut steps = vec![];
        for side in [Side::Voice, Side::Chat] {
            if self.state(side) == State::Held && self.may_connect(side) {
                self.one_mut(side).state = State::Connecting;
                steps.push(Step::Connect(side));
            }
        }
        steps
    }

    fn may_connect(&self, side: Side) -> bool {
        let other = self.state(side.other());
        let wrong = matches!(other, State::Waiting { .. } | State::Stopped(_));
        let both = self.policy.loss == Loss::DropBoth;
        if both && wrong {
            return false;
        }
        // Chat waits until it is known how it goes with voice; not for a voice that does not come.
        let waits = side == Side::Chat && self.policy.order == Order::VoiceFirst;
        !waits || other == State::Up || wrong
    }

    fn one(&self, side: Side) -> &Connection {
        match side {
            Side::Chat => &self.chat,
            Side::Voice => &self.voice,
        }
    }

    fn one_mut(&mut self, side: Side) -> &mut Connection {
        match side {
            Side::Chat => &mut self.chat,
            Side::Voice => &mut self.voice,
        }
    }
}

impl Connection {
    /// Whether somebody makes or keeps it.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Connecting | State::Up)
    }

    fn until(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until, .. } => Some(until),
            State::Off | State::Held | State::Connecting | State::Up | State::Stopped(_) => None,
        }
    }
}

/// The longest first wait; half of it is the shortest.
const FIRST: Duration = Duration::from_secs(4);
/// The longest wait of all.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);
/// A connection that lasted so long was a good one: the next wait is a first one.
const STABLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any fixed start will do")]
    fn epoch() -> Instant {
        Instant::now()
    }

    /// Steps and states in short: what was done, and how both are then.
    fn told(connections: &Connections, steps: &[Step]) -> String {
        let steps: Vec<_> = steps
            .iter()
            .map(|step| match step {
                Step::Connect(side) => format!("+{side:?}"),
                Step::Disconnect(side) => format!("-{side:?}"),
                Step::Warn(side, fault) => format!("!{side:?} {fault:?}"),
                Step::Restored(side) => format!("ok {side:?}"),
            })
            .collect();
        let states = Side::ALL.map(|side| match connections.state(side) {
            State::Waiting { .. } => "Waiting".to_owned(),
            state @ (State::Off
            | State::Held
            | State::Connecting
            | State::Up
            | State::Stopped(_)) => format!("{state:?}"),
        });
        let service = connections.service();
        format!("{} | {} {} | {service:?}", steps.join(", "), states[0], states[1])
    }

    #[test]
    fn each_policy_does_what_the_rfc_allows() {
        use Fault::{Unreachable, WrongPassword};
        let now = epoch();
        let check = |order, loss, script: &[(&str, &str)]| {
            let mut connections = Connections::new(Policy { order, loss }, [7; 32]);
            let mut now = now;
            for (what, expected) in script {
                let steps = match *what {
                    "start" => connections.start(),
                    "stop" => connections.stop(),
                    "retry" => connections.retry(),
                    "network" => connections.handle_network(),
                    "wait" => {
                        now = connections.poll_timeout().unwrap();
                        connections.handle_timeout(now)
                    }
                    "chat up" => connections.handle_up(now, Side::Chat),
                    "voice up" => connections.handle_up(now, Side::Voice),
                    "chat lost" => connections.handle_lost(now, Side::Chat, Unreachable, None),
                    "voice lost" => connections.handle_lost(now, Side::Voice, Unreachable, None),
                    "chat wrong" => connections.handle_lost(now, Side::Chat, WrongPassword, None),
                    "voice wrong" => connections.handle_lost(now, Side::Voice, WrongPassword, None),
                    other => panic!("{other}"),
                };
                let got = told(&connections, &steps);
                assert_eq!(got, *expected, "{order:?} {loss:?} after {what}");
            }
        };
        check(
            Order::Together,
            Loss::Keep,
            &[
                ("start", "+Voice, +Chat | Connecting Connecting | Connecting"),
                ("start", " | Connecting Connecting | Connecting"),
                ("chat up", " | Up Connecting | Only(Chat)"),
                ("voice up", " | Up Up | Whole"),
                ("voice lost", " | Up Waiting | Only(Chat)"),
                ("wait", "+Voice | Up Connecting | Only(Chat)"),
                ("voice wrong", "!Voice WrongPassword | Up Stopped(WrongPassword) | Only(Chat)"),
                ("network", " | Up Stopped(WrongPassword) | Only(Chat)"),
                ("retry", "+Voice | Up Connecting | Only(Chat)"),
                ("voice up", "ok Voice | Up Up | Whole"),
                ("stop", "-Chat, -Voice | Off Off | Off"),
                ("chat up", "-Chat | Off Off | Off"),
                ("chat lost", " | Off Off | Off"),
            ],
        );
        check(
            Order::VoiceFirst,
            Loss::Warn,
            &[
                ("start", "+Voice | Held Connecting | Connecting"),
                ("voice up", "+Chat | Connecting Up | Only(Voice)"),
                ("chat up", " | Up Up | Whole"),
                ("voice lost", "!Voice Unreachable | Up Waiting | Only(Chat)"),
                ("network", "+Voice | Up Connecting | Only(Chat)"),
                ("chat lost", "!Chat Unreachable | Waiting Connecting | Down"),
                ("voice up", "ok Voice | Waiting Up | Only(Voice)"),
                ("wait", "+Chat | Connecting Up | Only(Voice)"),
                ("chat up", "ok Chat | Up Up | Whole"),
            ],
        );
        // Who cannot call may still chat.
        check(
            Order::VoiceFirst,
            Loss::Warn,
            &[
                ("start", "+Voice | Held Connecting | Connecting"),
                (
                    "voice wrong",
                    "!Voice WrongPassword, +Chat | Connecting Stopped(WrongPassword) | Down",
                ),
                ("chat up", " | Up Stopped(WrongPassword) | Only(Chat)"),
            ],
        );
        check(
            Order::VoiceFirst,
            Loss::DropBoth,
            &[
                ("start", "+Voice | Held Connecting | Connecting"),
                ("voice lost", " | Held Waiting | Down"),
                ("wait", "+Voice | Held Connecting | Connecting"),
                ("voice up", "+Chat | Connecting Up | Only(Voice)"),
                ("chat lost", "-Voice | Waiting Held | Down"),
                ("wait", "+Voice | Held Connecting | Connecting"),
                ("voice up", "+Chat | Connecting Up | Only(Voice)"),
                ("chat up", " | Up Up | Whole"),
                ("voice lost", "!Voice Unreachable, -Chat | Held Waiting | Down"),
                ("chat lost", " | Held Waiting | Down"),
                ("network", "+Voice | Held Connecting | Connecting"),
                ("voice wrong", "!Voice WrongPassword | Held Stopped(WrongPassword) | Down"),
                ("retry", "+Voice | Held Connecting | Connecting"),
            ],
        );
        check(
            Order::Together,
            Loss::DropBoth,
            &[
                ("start", "+Voice, +Chat | Connecting Connecting | Connecting"),
                ("voice up", " | Connecting Up | Only(Voice)"),
                ("chat wrong", "!Chat WrongPassword, -Voice | Stopped(WrongPassword) Held | Down"),
                ("retry", "+Voice, +Chat | Connecting Connecting | Connecting"),
            ],
        );
    }

    #[test]
    fn waits_grow_and_differ_and_a_server_may_ask_for_longer_ones() {
        let now = epoch();
        let waits = |seed, after| {
            let mut connections = Connections::new(Policy::default(), [seed; 32]);
            connections.start();
            let mut at = now;
            let waits: Vec<_> = (0..12)
                .map(|_| {
                    connections.handle_lost(at, Side::Chat, Fault::Unreachable, after);
                    let until = connections.poll_timeout().unwrap();
                    let wait = until - at;
                    at = until;
                    connections.handle_timeout(at);
                    wait
                })
                .collect();
            // Up for a moment is not yet a reason to begin anew, up for long is.
            let wait_after = |connections: &mut Connections, at: Instant, up| {
                connections.handle_up(at, Side::Chat);
                connections.handle_lost(at + up, Side::Chat, Fault::Unreachable, after);
                let wait = connections.poll_timeout().unwrap() - (at + up);
                connections.handle_network();
                wait
            };
            let flapping = wait_after(&mut connections, at, Duration::from_secs(1));
            let fresh = wait_after(&mut connections, at, STABLE);
            (waits, flapping, fresh)
        };
        let (first, flapping, fresh) = waits(1, None);
        for (n, wait) in first.iter().enumerate() {
            let most = FIRST.saturating_mul(1 << n).min(LONGEST);
            assert!(*wait >= most / 2 && *wait <= most, "{n}: {wait:?}");
        }
        assert!(flapping > LONGEST / 3 && fresh <= FIRST);
        assert_ne!(first, waits(2, None).0);
        let patient = waits(1, Some(Duration::from_secs(40))).0;
        assert_eq!(patient[0], Duration::from_secs(40));
        assert!(waits(1, Some(Duration::MAX)).0.iter().all(|wait| *wait == LONGEST));
    }

    /// What the world does at some moment.
    #[derive(Clone, Copy, Debug)]
    enum Happens {
        /// This server goes away, and with it what is connected to it.
        Down(Side),
        /// It is there again.
        Back(Side),
        /// A connection breaks, and the server is there.
        Breaks(Side),
        /// The network is another one.
        Network,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let side = || prop::sample::select(&Side::ALL[..]);
        prop_oneof![
            side().prop_map(Happens::Down),
            side().prop_map(Happens::Back),
            side().prop_map(Happens::Breaks),
            Just(Happens::Network),
        ]
    }

    /// A client and two servers in virtual time.
    struct World {
        now: Instant,
        connections: Connections,
        policy: Policy,
        there: [bool; 2],
        /// Attempts under way, and when they end.
        attempts: [Option<Instant>; 2],
        open: [bool; 2],
        tried: [u32; 2],
    }

    impl World {
        fn do_all(&mut self, steps: Vec<Step>) {
            for step in steps {
                match step {
                    Step::Connect(side) => {
                        let at = side as usize;
                        assert!(!self.open[at] && self.attempts[at].is_none(), "twice {side:?}");
                        self.attempts[at] = Some(self.now + Duration::from_millis(300));
                        self.tried[at] += 1;
                        let voice = self.connections.state(Side::Voice);
                        let early = self.policy.order == Order::VoiceFirst
                            && side == Side::Chat
                            && matches!(voice, State::Connecting | State::Held);
                        assert!(!early, "chat before voice");
                    }
                    Step::Disconnect(side) => {
                        self.attempts[side as usize] = None;
                        self.open[side as usize] = false;
                    }
                    Step::Warn(..) | Step::Restored(_) => {}
                }
            }
            for side in Side::ALL {
                let open = self.open[side as usize];
                assert_eq!(self.connections.state(side) == State::Up, open, "{side:?}");
                let other = self.connections.state(side.other());
                let alone = open && matches!(other, State::Waiting { .. } | State::Stopped(_));
                assert!(self.policy.loss != Loss::DropBoth || !alone, "{side:?} alone");
            }
        }

        fn lose(&mut self, side: Side) {
            if std::mem::take(&mut self.open[side as usize]) {
                let steps = self.connections.handle_lost(self.now, side, Fault::Unreachable, None);
                self.do_all(steps);
            }
        }

        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            loop {
                let attempts = self.attempts.iter().flatten().copied();
                let next = attempts.chain(self.connections.poll_timeout()).min();
                let Some(next) = next.filter(|next| *next <= end) else { break };
                self.now = self.now.max(next);
                for side in Side::ALL {
                    let at = side as usize;
                    if self.attempts[at].is_none_or(|due| due > self.now) {
                        continue;
                    }
                    self.attempts[at] = None;
                    let steps = if self.there[at] {
                        self.open[at] = true;
                        self.connections.handle_up(self.now, side)
                    } else {
                        self.connections.handle_lost(self.now, side, Fault::Unreachable, None)
                    };
                    self.do_all(steps);
                }
                let steps = self.connections.handle_timeout(self.now);
                self.do_all(steps);
            }
            self.now = end;
        }
    }

    proptest! {
        /// Whatever is lost and whenever: what is open is what the client believes to be open, each
        /// policy holds at every moment, nobody is hammered, and both come back when they can.
        #[test]
        fn either_may_be_lost_at_any_moment(
            script in prop::collection::vec((0..900_000_u64, happens()), 0..40),
            order in prop::sample::select(&[Order::Together, Order::VoiceFirst][..]),
            loss in prop::sample::select(&[Loss::Keep, Loss::Warn, Loss::DropBoth][..]),
            seed in any::<[u8; 32]>(),
        ) {
            let policy = Policy { order, loss };
            let mut world = World {
                now: epoch(),
                connections: Connections::new(policy, seed),
                policy,
                there: [true; 2],
                attempts: [None; 2],
                open: [false; 2],
                tried: [0; 2],
            };
            let steps = world.connections.start();
            world.do_all(steps);
            for (wait_ms, happens) in script {
                world.run(Duration::from_millis(wait_ms));
                match happens {
                    Happens::Down(side) => {
                        world.there[side as usize] = false;
                        world.lose(side);
                    }
                    Happens::Back(side) => world.there[side as usize] = true,
                    Happens::Breaks(side) => world.lose(side),
                    Happens::Network => {
                        let steps = world.connections.handle_network();
                        world.do_all(steps);
                    }
                }
            }
            world.there = [false; 2];
            for side in Side::ALL {
                world.lose(side);
            }
            world.tried = [0; 2];
            world.run(Duration::from_secs(3_600));
            prop_assert!(world.tried.iter().all(|tried| *tried <= 36), "{:?}", world.tried);
            world.there = [true; 2];
            world.run(LONGEST * 2);
            prop_assert_eq!(world.connections.service(), Service::Whole);
        }
    }
}
