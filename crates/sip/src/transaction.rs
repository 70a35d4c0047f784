//! The four transaction machines (RFC 3261 §17, RFC 6026): states and timers, nothing else.
//!
//! [`Client`] and [`Server`] each hold two machines, one for INVITE and one for all other methods.
//! They know no messages: who they belong to, and what is sent when they say so, is kept in
//! [`crate::table`].

use std::time::{Duration, Instant};

use crate::message::Status;

/// The estimate of a round trip (RFC 3261 §17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest interval between two retransmissions, INVITE apart.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// How long one side waits for the other.
pub(crate) const GIVE_UP: Duration = Duration::from_millis(500 * 64);
/// How long an INVITE may go without a final answer, either way: no less than Timer C of the proxies
/// between (RFC 3261 §16.6).
pub(crate) const RING: Duration = Duration::from_secs(180);

/// The timers of RFC 3261 §17, of RFC 6026, and two that bound what those leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// INVITE is sent again.
    A,
    /// INVITE was never answered.
    B,
    /// Copies of a refused INVITE's answer are awaited.
    D,
    /// Another request is sent again.
    E,
    /// Another request was never answered.
    F,
    /// The refusal of an INVITE is sent again.
    G,
    /// The refusal of an INVITE was never confirmed.
    H,
    /// Copies of an ACK are awaited.
    I,
    /// Copies of another request are awaited.
    J,
    /// Copies of another request's answer are awaited.
    K,
    /// Copies of an accepted INVITE are awaited (RFC 6026 §7.1).
    L,
    /// Copies of an INVITE's 2xx, and those of other branches, are awaited (RFC 6026 §7.2).
    M,
    /// The user of an INVITE's server transaction has not answered yet: 100 is due (§17.2.1).
    Trying,
    /// The user never answered an INVITE.
    Ring,
    /// The user never answered another request, and the client has given up (RFC 4320 §4.2).
    Unanswered,
}

impl Timer {
    /// How long it first runs; `None` if it does not run over this kind of transport.
    const fn first(self, reliable: bool) -> Option<Duration> {
        Some(match (self, reliable) {
            (Self::A | Self::E | Self::G, true) => return None,
            (Self::A | Self::E | Self::G, false) => T1,
            (Self::D | Self::I | Self::J | Self::K, true) => Duration::ZERO,
            (Self::I | Self::K, false) => T4,
            (Self::D | Self::J, false) => GIVE_UP,
            (Self::B | Self::F | Self::H | Self::L | Self::M | Self::Unanswered, _) => GIVE_UP,
            (Self::Trying, _) => Duration::from_millis(200),
            (Self::Ring, _) => RING,
        })
    }

    /// How long it runs after it ran for `last`; `None` if it runs once.
    fn again(self, last: Duration) -> Option<Duration> {
        match self {
            Self::A => Some(last * 2),
            Self::E | Self::G => Some((last * 2).min(T2)),
            Self::B | Self::D | Self::F | Self::H | Self::I | Self::J | Self::K | Self::L => None,
            Self::M | Self::Trying | Self::Ring | Self::Unanswered => None,
        }
    }
}

/// A timer that runs.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    timer: Timer,
    at: Instant,
    interval: Duration,
}

impl Alarm {
    fn start(timer: Timer, now: Instant, reliable: bool) -> Option<Self> {
        let interval = timer.first(reliable)?;
        Some(Self { timer, at: now + interval, interval })
    }

    /// Whether it is time; if so, what runs next takes its place.
    fn ring(alarm: &mut Option<Self>, now: Instant) -> Option<Timer> {
        let rang = alarm.filter(|alarm| alarm.at <= now)?;
        // After a sleep, what was missed is not made up for.
        let next = |interval| Self { at: (rang.at + interval).max(now), interval, ..rang };
        *alarm = rang.timer.again(rang.interval).map(next);
        Some(rang.timer)
    }
}

fn earliest(alarms: [Option<Alarm>; 2]) -> Option<Instant> {
    alarms.into_iter().flatten().map(|alarm| alarm.at).min()
}

/// What a machine wants done when a timer has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// Send what was sent last.
    Resend,
    /// Send 100 (Trying).
    Trying,
    /// Cancel the INVITE, which has rung for too long.
    Cancel,
    /// Give up: the other side, or our own user, never answered. The machine has ended.
    TimedOut,
    /// Forget the transaction: all its work is done.
    Over,
}

/// A client transaction (RFC 3261 §17.1).
#[derive(Debug)]
pub(crate) struct Client {
    invite: bool,
    reliable: bool,
    state: ClientState,
    resend: Option<Alarm>,
    end: Option<Alarm>,
}

/// The states of Figures 5 and 6, Figure 5 as in RFC 6026 §8.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    /// Calling, or Trying.
    Calling,
    Proceeding,
    Completed,
    Accepted,
}

/// What is to be done with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Report it.
    Pass,
    /// Report it, and send ACK: it refuses an INVITE.
    PassAndAck,
    /// Send ACK again.
    AckAgain,
    /// Nothing.
    Ignore,
}

impl Client {
    /// Starts; the request is being sent.
    pub(crate) fn new(now: Instant, invite: bool, reliable: bool) -> Self {
        let (resend, end) = if invite { (Timer::A, Timer::B) } else { (Timer::E, Timer::F) };
        Self {
            invite,
            reliable,
            state: ClientState::Calling,
            resend: Alarm::start(resend, now, reliable),
            end: Alarm::start(end, now, reliable),
        }
    }

    /// Starts to resend, or stops, since the request went over to another transport; its end stays.
    pub(crate) fn move_to(&mut self, now: Instant, reliable: bool) {
        self.reliable = reliable;
        if self.state == ClientState::Calling {
            let timer = if self.invite { Timer::A } else { Timer::E };
            self.resend = Alarm::start(timer, now, reliable);
        }
    }

    /// Whether a final response may still come.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, ClientState::Calling | ClientState::Proceeding)
    }

    /// Whether a provisional response has come, and no final one.
    pub(crate) fn is_proceeding(&self) -> bool {
        self.state == ClientState::Proceeding
    }

    /// The INVITE is being cancelled: it is over when no answer comes soon (RFC 3261 §9.1).
    pub(crate) fn handle_cancel(&mut self, now: Instant) {
        if self.is_waiting() {
            self.end = Alarm::start(Timer::B, now, self.reliable);
        }
    }

    /// Takes a response that belongs to this transaction.
    pub(crate) fn handle_response(&mut self, now: Instant, status: Status) -> Heard {
        use ClientState::{Accepted, Calling, Completed, Proceeding};
        let (state, heard) = match (self.state, self.invite) {
            (Calling | Proceeding, _) if status.is_provisional() => (Proceeding, Heard::Pass),
            (Calling | Proceeding, true) if status.is_success() => (Accepted, Heard::Pass),
            (Calling | Proceeding, true) => (Completed, Heard::PassAndAck),
            (Calling | Proceeding, false) => (Completed, Heard::Pass),
            (Accepted, _) if status.is_success() => return Heard::Pass,
            (Completed, true) if status.is_final() && !status.is_success() => {
                return Heard::AckAgain;
            }
            (Accepted | Completed, _) => return Heard::Ignore,
        };
        match (state, self.invite) {
            (Proceeding, true) if self.state == Calling => {
                // An INVITE that rings is sent no more, and may ring for as long as the user likes.
                self.resend = None;
                self.end = Alarm::start(Timer::Ring, now, self.reliable);
            }
            (Proceeding, false) => {
                // Less often, for a server that is at work (§17.1.2.2).
                if let Some(resend) = &mut self.resend {
                    resend.interval = T2;
                }
            }
            (Completed | Accepted, _) => {
                let timer = match (state, self.invite) {
                    (Accepted, _) => Timer::M,
                    (_, true) => Timer::D,
                    (_, false) => Timer::K,
                };
                self.resend = None;
                self.end = Alarm::start(timer, now, self.reliable);
            }
            (Calling | Proceeding, _) => {}
        }
        self.state = state;
        heard
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Due {
        match Alarm::ring(&mut self.end, now) {
            Some(Timer::Ring) => return Due::Cancel,
            Some(_) if self.is_waiting() => return Due::TimedOut,
            Some(_) => return Due::Over,
            None => {}
        }
        Alarm::ring(&mut self.resend, now).map_or(Due::Nothing, |_| Due::Resend)
    }

    /// When [`Self::handle_timeout`] is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earliest([self.resend, self.end])
    }
}

/// A server transaction (RFC 3261 §17.2).
#[derive(Debug)]
pub(crate) struct Server {
    invite: bool,
    reliable: bool,
    state: ServerState,
    resend: Option<Alarm>,
    end: Option<Alarm>,
}

/// The states of Figures 7 and 8, Figure 7 as in RFC 6026 §8.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerState {
    /// Trying, or Proceeding.
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
}

impl Server {
    /// Starts; the request is being reported.
    pub(crate) fn new(now: Instant, invite: bool, reliable: bool) -> Self {
        let end = if invite { Timer::Ring } else { Timer::Unanswered };
        Self {
            invite,
            reliable,
            state: ServerState::Proceeding,
            resend: if invite { Alarm::start(Timer::Trying, now, reliable) } else { None },
            end: Alarm::start(end, now, reliable),
        }
    }

    /// Whether the user may still answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state == ServerState::Proceeding
    }

    /// Whether it lives on only to give copies of the request the same answer: what may be dropped
    /// when memory is short.
    pub(crate) fn is_spent(&self) -> bool {
        matches!(self.state, ServerState::Completed | ServerState::Confirmed)
    }

    /// Takes the user's answer. Says whether it is to be sent: not after a final one.
    pub(crate) fn handle_answer(&mut self, now: Instant, status: Status) -> bool {
        if !self.is_waiting() {
            return false;
        }
        let start = |timer| Alarm::start(timer, now, self.reliable);
        if self.invite {
            self.resend = None;
        }
        if status.is_provisional() {
            return true;
        }
        let (state, resend, end) = match self.invite {
            true if status.is_success() => (ServerState::Accepted, None, start(Timer::L)),
            true => (ServerState::Completed, start(Timer::G), start(Timer::H)),
            false => (ServerState::Completed, None, start(Timer::J)),
        };
        (self.state, self.resend, self.end) = (state, resend, end);
        true
    }

    /// Takes a copy of the request. Says whether the last answer, if there is one, is to be sent again.
    pub(crate) fn handle_copy(&self) -> bool {
        match self.state {
            ServerState::Proceeding | ServerState::Completed => true,
            // The 2xx is resent by the user of the transaction (RFC 6026 §7.1).
            ServerState::Confirmed | ServerState::Accepted => false,
        }
    }

    /// Takes an ACK of the same branch. Says whether it confirms a refusal: any other is for the
    /// dialog.
    pub(crate) fn handle_ack(&mut self, now: Instant) -> bool {
        match self.state {
            ServerState::Completed if self.invite => {
                self.state = ServerState::Confirmed;
                self.resend = None;
                self.end = Alarm::start(Timer::I, now, self.reliable);
                true
            }
            ServerState::Confirmed => true,
            ServerState::Completed | ServerState::Proceeding | ServerState::Accepted => false,
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Due {
        if Alarm::ring(&mut self.end, now).is_some() {
            return if self.is_waiting() { Due::TimedOut } else { Due::Over };
        }
        match Alarm::ring(&mut self.resend, now) {
            Some(Timer::Trying) => Due::Trying,
            Some(_) => Due::Resend,
            None => Due::Nothing,
        }
    }

    /// When [`Self::handle_timeout`] is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earliest([self.resend, self.end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any fixed start will do")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn status(code: u16) -> Status {
        Status::new(code).unwrap()
    }

    /// The two kinds of machine, for a test that treats them alike.
    trait Machine {
        fn next(&self) -> Option<Instant>;
        fn fire(&mut self, now: Instant) -> Due;
    }

    impl Machine for Client {
        fn next(&self) -> Option<Instant> {
            self.poll_timeout()
        }

        fn fire(&mut self, now: Instant) -> Due {
            self.handle_timeout(now)
        }
    }

    impl Machine for Server {
        fn next(&self) -> Option<Instant> {
            self.poll_timeout()
        }

        fn fire(&mut self, now: Instant) -> Due {
            self.handle_timeout(now)
        }
    }

    /// Runs a machine through its timers until `until` or its end: what was due when, in ms.
    fn run(
        machine: &mut impl Machine,
        start: Instant,
        until: Option<Instant>,
        log: &mut Vec<(u128, Due)>,
    ) {
        while let Some(now) = machine.next().filter(|now| until.is_none_or(|until| *now < until)) {
            let due = machine.fire(now);
            log.push(((now - start).as_millis(), due));
            if matches!(due, Due::TimedOut | Due::Over | Due::Cancel) {
                return;
            }
        }
    }

    fn resends(at: &[u128], (end, due): (u128, Due)) -> Vec<(u128, Due)> {
        at.iter().map(|at| (*at, Due::Resend)).chain([(end, due)]).collect()
    }

    /// A client that hears these answers at these times (ms), and is then left alone.
    fn client(
        invite: bool,
        reliable: bool,
        answers: &[(u64, u16)],
    ) -> (Vec<Heard>, Vec<(u128, Due)>) {
        let start = epoch();
        let mut machine = Client::new(start, invite, reliable);
        let (mut log, mut heard) = (vec![], vec![]);
        for (at, code) in answers {
            let at = start + ms(*at);
            run(&mut machine, start, Some(at), &mut log);
            heard.push(machine.handle_response(at, status(*code)));
        }
        run(&mut machine, start, None, &mut log);
        (heard, log)
    }

    #[test]
    fn client_schedules() {
        use Due::{Over, TimedOut};
        use Heard::{AckAgain, Ignore, Pass, PassAndAck};
        let check = |name: &str, invite, reliable, answers: &[_], heard: &[Heard], log: Vec<_>| {
            assert_eq!(client(invite, reliable, answers), (heard.to_vec(), log), "{name}");
        };
        let a = [500, 1500, 3500, 7500, 15500, 31500];
        check("A and B", true, false, &[], &[], resends(&a, (32000, TimedOut)));
        check("B alone", true, true, &[], &[], resends(&[], (32000, TimedOut)));
        let ring = [(600, 180), (900, 183)];
        check("rings", true, false, &ring, &[Pass, Pass], resends(&[500], (180_600, Due::Cancel)));
        let refused = [(100, 486), (5000, 486), (6000, 200), (7000, 180)];
        let heard = [PassAndAck, AckAgain, Ignore, Ignore];
        check("D", true, false, &refused, &heard, resends(&[], (32100, Over)));
        check("D reliable", true, true, &refused[..1], &heard[..1], resends(&[], (100, Over)));
        let forked = [(100, 180), (2000, 200), (2500, 200), (2600, 486), (2700, 180)];
        let heard = [Pass, Pass, Pass, Ignore, Ignore];
        check("M", true, false, &forked, &heard, resends(&[], (34000, Over)));
        check("M reliable", true, true, &forked[..2], &heard[..2], resends(&[], (34000, Over)));
        let e = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];
        check("E and F", false, false, &[], &[], resends(&e, (32000, TimedOut)));
        check("F alone", false, true, &[], &[], resends(&[], (32000, TimedOut)));
        let e = [500, 1500, 5500, 9500, 13500, 17500, 21500, 25500, 29500];
        check("slow", false, false, &[(600, 100)], &[Pass], resends(&e, (32000, TimedOut)));
        let twice = [(100, 200), (700, 200), (800, 500)];
        check("K", false, false, &twice, &[Pass, Ignore, Ignore], resends(&[], (5100, Over)));
        check("K reliable", false, true, &twice[..1], &[Pass], resends(&[], (100, Over)));
    }

    /// A server whose user answers so at these times (ms); then an ACK comes, or not.
    fn server(
        invite: bool,
        reliable: bool,
        answers: &[(u64, u16)],
        ack: Option<u64>,
    ) -> (Vec<bool>, Vec<(u128, Due)>) {
        let start = epoch();
        let mut machine = Server::new(start, invite, reliable);
        let (mut log, mut said) = (vec![], vec![]);
        let steps = answers.iter().map(|(at, code)| (*at, Some(*code)));
        for (at, code) in steps.chain(ack.map(|at| (at, None))) {
            let at = start + ms(at);
            run(&mut machine, start, Some(at), &mut log);
            said.push(match code {
                Some(code) => machine.handle_answer(at, status(code)),
                None => machine.handle_ack(at),
            });
        }
        run(&mut machine, start, None, &mut log);
        (said, log)
    }

    #[test]
    fn server_schedules() {
        use Due::{Over, TimedOut, Trying};
        let check =
            |name: &str, invite, reliable, answers: &[_], ack, said: &[bool], log: Vec<_>| {
                assert_eq!(server(invite, reliable, answers, ack), (said.to_vec(), log), "{name}");
            };
        let never = vec![(200, Trying), (180_000, TimedOut)];
        check("never answered", true, false, &[], None, &[], never);
        check("late BYE answer", false, false, &[], None, &[], vec![(32000, TimedOut)]);
        let g = [600, 1600, 3600, 7600, 11600, 15600, 19600, 23600, 27600, 31600];
        check("G and H", true, false, &[(100, 486)], None, &[true], resends(&g, (32100, Over)));
        check("H alone", true, true, &[(100, 486)], None, &[true], resends(&[], (32100, Over)));
        let two = [true, true];
        let log = resends(&[600, 1600], (7000, Over));
        check("I", true, false, &[(100, 486)], Some(2000), &two, log);
        let log = resends(&[], (2000, Over));
        check("I reliable", true, true, &[(100, 486)], Some(2000), &two, log);
        let accepted = [(100, 180), (1000, 200), (1100, 486)];
        let log = resends(&[], (33000, Over));
        check("L", true, false, &accepted, Some(2000), &[true, true, false, false], log.clone());
        check("L reliable", true, true, &accepted, None, &[true, true, false], log);
        let log = resends(&[], (32100, Over));
        check(
            "J",
            false,
            false,
            &[(50, 100), (100, 200), (120, 200)],
            None,
            &[true, true, false],
            log,
        );
        check("J reliable", false, true, &[(100, 200)], None, &[true], resends(&[], (100, Over)));
    }

    #[test]
    fn copies_of_a_request() {
        let check = |invite, answers: &[u16], ack, expected| {
            let now = epoch();
            let mut machine = Server::new(now, invite, false);
            for code in answers {
                machine.handle_answer(now, status(*code));
            }
            if ack {
                machine.handle_ack(now);
            }
            assert_eq!((machine.handle_copy(), machine.is_spent()), expected, "{answers:?} {ack}");
        };
        check(true, &[], false, (true, false));
        check(true, &[180], false, (true, false));
        check(true, &[180, 486], false, (true, true));
        check(true, &[486], true, (false, true));
        check(true, &[200], false, (false, false));
        check(true, &[200], true, (false, false));
        check(false, &[], false, (true, false));
        check(false, &[200], false, (true, true));
        check(false, &[404], true, (true, true));
    }

    #[test]
    fn a_client_that_changes_transport() {
        let start = epoch();
        let mut machine = Client::new(start, false, true);
        assert_eq!(machine.poll_timeout(), Some(start + GIVE_UP));
        machine.move_to(start + ms(100), false);
        assert_eq!(machine.poll_timeout(), Some(start + ms(600)));
        assert_eq!(machine.handle_timeout(start + ms(600)), Due::Resend);
        machine.handle_response(start + ms(700), Status::TRYING);
        assert!(machine.is_proceeding());
        machine.move_to(start + ms(800), true);
        machine.handle_response(start + ms(900), Status::OK);
        assert_eq!(machine.poll_timeout(), Some(start + ms(900)));
    }

    #[test]
    fn a_cancelled_invite_ends_soon() {
        let start = epoch();
        let mut machine = Client::new(start, true, false);
        machine.handle_response(start, Status::RINGING);
        machine.handle_cancel(start + ms(1000));
        assert_eq!(machine.poll_timeout(), Some(start + ms(33_000)));
        assert_eq!(machine.handle_timeout(start + ms(33_000)), Due::TimedOut);
    }

    #[test]
    fn a_long_sleep_is_not_made_up_for() {
        let start = epoch();
        let mut machine = Client::new(start, false, false);
        let late = start + ms(30_000);
        assert_eq!(machine.handle_timeout(late), Due::Resend);
        assert_eq!(machine.poll_timeout(), Some(late));
        assert_eq!(machine.handle_timeout(late), Due::Resend);
        assert_eq!(machine.poll_timeout(), Some(late + T2.min(ms(2000))));
    }
}
