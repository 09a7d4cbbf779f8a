//! Those who wait for a flush: who leads the next one, and for whom it waits.
//!
//! Decisions alone, for the holder of the queue's lock: nobody sleeps here, or is woken.

use std::io;
use std::time::Duration;

use crate::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: State,
    /// Flushes that have begun, and that have ended: all of them but the last.
    begun: u64,
    ended: u64,
    /// Those who sleep until a flush ends that has not: by its [turn].
    asleep: [usize; 2],
    /// Those who sleep until they have the lead.
    seeking: usize,
    pub(super) gathering: Gathering,
    pub(super) failure: Option<Arc<io::Error>>,
}

/// Who leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Nobody,
    /// Whoever completes those who are due, or the heir if they do not come: one of those
    /// who sleep, that was called, or looks out for them by now.
    Gathering {
        has_heir: bool,
    },
    /// A seeker, that was called.
    Seeker,
    Somebody,
}

/// Who is to be woken when a flush has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// All who slept for the flush of this turn.
    pub(super) let_go: Option<usize>,
    pub(super) next: Next,
}

/// Who is to go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Nobody,
    /// One of those who sleep for the flush of this turn.
    Heir(usize),
    Seeker,
}

/// How many callers the next flush waits for, and how long.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// It begins when so many are there.
    due: usize,
    /// How long the last flush took.
    pub(super) flush: Duration,
    /// How often in a row those who were due did not come.
    in_vain: u32,
    /// Flushes that do not wait for anyone, as that was in vain.
    resting: u32,
}

/// A flush that takes longer is taken for one of this: whoever looks out keeps a processor.
const SLOW: Duration = Duration::from_millis(8);

/// Which of two a flush is: it under way, and the next one, by turns.
pub(super) fn turn(flush: u64) -> usize {
    (flush % 2) as usize
}

impl Queue {
    /// The flush that covers whoever comes now: the one under way may be past that.
    pub(super) fn next_flush(&self) -> u64 {
        self.begun + 1
    }

    /// Whether nobody sleeps for `flush` any more.
    pub(super) fn is_over(&self, flush: u64) -> bool {
        self.ended >= flush || self.failure.is_some()
    }

    /// Takes in one who waits for `flush`. `true`: with this one all who were due are there,
    /// and it has the lead.
    pub(super) fn join(&mut self, flush: u64) -> bool {
        let is_free = matches!(self.state, State::Nobody | State::Gathering { .. });
        if is_free && self.asleep(flush) + 1 >= self.gathering.due {
            self.gathering.complete();
            self.state = State::Somebody;
            return true;
        }
        if self.state == State::Nobody {
            self.state = State::Gathering { has_heir: false };
        }
        self.asleep[turn(flush)] += 1;
        false
    }

    /// Lets one go who waited for `flush`. When that has ended, all were.
    pub(super) fn leave(&mut self, flush: u64) {
        if self.ended < flush {
            self.asleep[turn(flush)] -= 1;
        }
    }

    pub(super) fn asleep(&self, flush: u64) -> usize {
        self.asleep[turn(flush)]
    }

    /// Makes the caller the heir, where one is wanted.
    pub(super) fn inherit(&mut self) -> bool {
        let is_wanted = self.state == State::Gathering { has_heir: false };
        if is_wanted {
            self.state = State::Gathering { has_heir: true };
        }
        is_wanted
    }

    /// Whether the heir still is to wait for those who are due for `flush`.
    pub(super) fn is_gathering(&self, flush: u64) -> bool {
        self.state == State::Gathering { has_heir: true } && !self.is_over(flush)
    }

    pub(super) fn are_all_there(&self, flush: u64) -> bool {
        self.asleep(flush) >= self.gathering.due
    }

    /// Gives the lead to the heir, who waited for `flush`.
    pub(super) fn lead_as_heir(&mut self, flush: u64) {
        self.leave(flush);
        self.state = State::Somebody;
    }

    /// Takes in one who wants the lead itself. `true`: it has it, before those who only wait.
    pub(super) fn seek(&mut self) -> bool {
        let is_free = matches!(self.state, State::Nobody | State::Gathering { .. });
        if is_free {
            self.state = State::Somebody;
        } else {
            self.seeking += 1;
        }
        is_free
    }

    /// Gives the lead to one who seeks it, if it is the seekers' by now.
    pub(super) fn lead_as_seeker(&mut self) -> bool {
        let is_mine = self.state == State::Seeker;
        if is_mine {
            self.seeking -= 1;
            self.state = State::Somebody;
        }
        is_mine
    }

    pub(super) fn begin(&mut self) {
        self.begun += 1;
    }

    /// The flush under way has ended and took so long: says who is to be woken.
    pub(super) fn end(&mut self, took: Duration) -> Ended {
        self.ended = self.begun;
        let (over, next) = (turn(self.ended), turn(self.ended + 1));
        let let_go = std::mem::take(&mut self.asleep[over]);
        self.gathering.expect(took, let_go + 1, self.asleep[next]);
        let (state, called) = match self.asleep[next] {
            _ if self.seeking > 0 => (State::Seeker, Next::Seeker),
            0 => (State::Nobody, Next::Nobody),
            _ => (State::Gathering { has_heir: false }, Next::Heir(next)),
        };
        self.state = state;
        Ended { let_go: (let_go > 0).then_some(over), next: called }
    }
}

impl Gathering {
    /// Those who were due did not come.
    pub(super) fn give_up(&mut self) {
        self.in_vain = (self.in_vain + 1).min(6);
        self.resting = 1 << self.in_vain;
    }

    /// All who were due are there.
    pub(super) fn complete(&mut self) {
        if self.due > 1 {
            self.in_vain = 0;
        }
    }

    /// A flush has ended that took so long, and lets so many callers go: they may all come
    /// again, to where `asleep` are.
    fn expect(&mut self, took: Duration, let_go: usize, asleep: usize) {
        self.flush = took.min(SLOW);
        match self.resting.checked_sub(1) {
            None => self.due = let_go + asleep,
            Some(rest) => (self.due, self.resting) = (0, rest),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_millis(1);

    /// The callers due after a flush that let go of `let_go`, with `asleep` there already.
    fn due(gathering: &mut Gathering, let_go: usize, asleep: usize) -> usize {
        gathering.expect(FLUSH, let_go, asleep);
        gathering.due
    }

    #[test]
    fn all_who_were_let_go_are_due_beside_those_who_are_there() {
        let mut gathering = Gathering::default();
        assert_eq!(due(&mut gathering, 1, 0), 1);
        assert_eq!(due(&mut gathering, 3, 2), 5);
    }

    #[test]
    fn a_flush_lets_go_of_all_who_slept_for_it_and_expects_them_again() {
        let mut queue = Queue::default();
        assert!(queue.join(1));
        queue.begin();
        assert!(!queue.join(2), "a flush is under way");
        assert_eq!(queue.end(FLUSH).let_go, None, "nobody slept for the first");
        assert!(queue.inherit());
        queue.lead_as_heir(2);
        assert!(!queue.join(2), "it has not begun, but has a leader");
        queue.begin();
        assert_eq!(queue.end(FLUSH).let_go, Some(turn(2)));
        assert_eq!((queue.asleep, queue.gathering.due), ([0, 0], 2));
    }

    #[test]
    fn who_seeks_the_lead_is_before_those_who_wait() {
        let mut queue = Queue::default();
        assert!(queue.join(1));
        queue.begin();
        assert!(!queue.join(2));
        assert!(!queue.seek());
        assert!(!queue.lead_as_seeker(), "somebody has it");
        assert!(matches!(queue.end(FLUSH).next, Next::Seeker));
        assert!(!queue.inherit(), "it is the seeker's");
        assert!(queue.lead_as_seeker());
        queue.begin();
        assert_eq!(queue.end(FLUSH).let_go, Some(turn(2)), "that flush covered who waited");
        assert_eq!(queue.seeking, 0);
    }

    #[test]
    fn who_does_not_come_is_waited_for_ever_more_rarely() {
        let mut gathering = Gathering::default();
        let mut rests = Vec::new();
        for _ in 0..8 {
            assert_eq!(due(&mut gathering, 2, 0), 2);
            gathering.give_up();
            rests.push((0..).take_while(|_| due(&mut gathering, 2, 0) == 0).count());
            gathering.resting = 0;
        }
        assert_eq!(rests, [2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn waiting_is_worth_it_again_once_all_have_come() {
        let mut gathering = Gathering::default();
        (0..5).for_each(|_| gathering.give_up());
        gathering.resting = 0;
        assert_eq!(due(&mut gathering, 1, 0), 1);
        gathering.complete(); // one alone says nothing
        assert_eq!(gathering.in_vain, 5);
        assert_eq!(due(&mut gathering, 2, 0), 2);
        gathering.complete();
        assert_eq!(gathering.in_vain, 0);
    }
}
