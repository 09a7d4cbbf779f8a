//! Group commit: the durable mark, who flushes next, and the failure that ends it.
//!
//! One caller leads: it flushes what is published, moves the mark, and wakes those
//! who came before it began, all by one call. Who came later is covered by the next
//! flush. So nobody waits for more than the flush under way and the next one, and no
//! two flushes of the log overlap.
//!
//! Threads that commit again and again would divide into two halves, each of which waits
//! for the flush of the other. So the next flush waits for those whom the last one let go,
//! as long as they keep coming: the last of them leads it. Where they do not come, that is
//! tried ever more rarely. Databases know it as a commit delay, of a fixed time.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, Backoff, Condvar, Mutex, MutexGuard, Ordering, has_passed, lock,
    panicking, yield_now,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Everything below is durable. Stands on batch ends.
    durable: AtomicU64,
    has_failed: AtomicBool,
    queue: Mutex<Queue>,
    /// Where callers sleep who wait for a flush: it under way, and the next one, by turns.
    turns: [Condvar; 2],
    /// Where callers sleep who want the lead itself.
    seekers: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    state: State,
    /// Flushes that have begun, and that have ended: all of them but the last.
    begun: u64,
    ended: u64,
    /// Those who sleep until a flush ends that has not: by its number's last bit.
    asleep: [usize; 2],
    seeking: usize,
    gathering: Gathering,
    failure: Option<Arc<io::Error>>,
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

/// How many callers the next flush waits for, and how long.
#[derive(Debug, Default)]
struct Gathering {
    /// It begins when so many are there.
    due: usize,
    /// How long the last flush took.
    flush: Duration,
    /// How often in a row those who were due did not come.
    in_vain: u32,
    /// Flushes that do not wait for anyone, as that was in vain.
    resting: u32,
}

/// Callers keep coming if they do so within this part of a flush; they are waited for as
/// long as this many flushes take at the most.
const PARTS_OF_A_FLUSH: u32 = 8;
const MOST_FLUSHES: u32 = 8;

/// A flush that takes longer is taken for one of this: whoever looks out keeps a processor.
const SLOW: Duration = Duration::from_millis(8);

/// Held by the one who flushes. Dropped, it hands over to the next.
#[derive(Debug)]
pub(crate) struct Lead<'c> {
    commit: &'c Commit,
    began: Cell<Option<Instant>>,
    /// Whether the caller was unwinding before: a panic of its own, not of the flush.
    unwinding: bool,
}

fn turn(flush: u64) -> usize {
    (flush % 2) as usize
}

impl Commit {
    pub(crate) fn new(durable: u64) -> Self {
        Commit {
            durable: AtomicU64::new(durable),
            has_failed: AtomicBool::new(false),
            queue: Mutex::new(Queue::default()),
            turns: [Condvar::new(), Condvar::new()],
            seekers: Condvar::new(),
        }
    }

    /// Everything below is durable.
    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        // Acquire pairs with the Release in `move_to`.
        self.durable.load(Ordering::Acquire)
    }

    /// The sticky error, if a flush failed.
    pub(crate) fn check(&self) -> Result<()> {
        // Acquire pairs with the Release in `fail`.
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let source = lock(&self.queue).failure.clone().expect("stored before the flag");
        Err(Error::FlushFailed { durable: Lsn(self.durable()), source })
    }

    /// Remembers the first failure for ever.
    pub(crate) fn fail(&self, source: Arc<io::Error>) {
        let mut queue = lock(&self.queue);
        queue.failure.get_or_insert(source);
        // Release pairs with the Acquire in `check`. Under the lock: who finds the
        // failure in the queue finds it there, too.
        self.has_failed.store(true, Ordering::Release);
        self.turns.iter().for_each(Condvar::notify_all);
    }

    /// Waits until everything below `want` is durable, which may become less meanwhile,
    /// leading flushes where nobody does. `flush` says that it [begins](Lead::begin), makes
    /// durable what is published and [moves](Lead::move_to) the mark; its error has been made
    /// sticky.
    pub(crate) fn wait(
        &self,
        want: impl Fn() -> u64,
        mut flush: impl FnMut(&Lead<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            let want = want();
            if self.durable() >= want {
                return Ok(());
            }
            self.check()?;
            if let Some(lead) = self.enter(want) {
                let before = self.durable();
                flush(&lead)?;
                drop(lead);
                if self.durable() == before {
                    // a neighbour is in the middle of an append: nobody waits for it
                    // with the lead in hand
                    backoff.wait();
                }
            }
        }
    }

    /// Takes the lead, when nobody else has it: before those who only wait for a flush.
    pub(crate) fn lead(&self) -> Lead<'_> {
        let mut queue = lock(&self.queue);
        if matches!(queue.state, State::Somebody | State::Seeker) {
            queue.seeking += 1;
            while queue.state != State::Seeker {
                queue = self.seekers.wait(queue).unwrap_or_else(|e| e.into_inner());
            }
            queue.seeking -= 1;
        }
        queue.take_lead(self)
    }

    /// The lead; or `None` after having slept until `want` may be covered, or something
    /// else is to be looked at.
    fn enter(&self, want: u64) -> Option<Lead<'_>> {
        let mut queue = lock(&self.queue);
        // Both may have come since the caller looked: a flush is not tried again.
        if queue.failure.is_some() || self.durable() >= want {
            return None;
        }
        let mine = queue.begun + 1; // the one under way may be past what is wanted
        let turn = turn(mine);
        let is_complete = queue.asleep[turn] + 1 >= queue.gathering.due;
        match queue.state {
            State::Nobody | State::Gathering { .. } if is_complete => {
                queue.gathering.complete();
                return Some(queue.take_lead(self));
            }
            State::Nobody => queue.state = State::Gathering { has_heir: false },
            _ => {}
        }
        queue.asleep[turn] += 1;
        while queue.ended < mine && queue.failure.is_none() {
            if queue.state == (State::Gathering { has_heir: false }) {
                queue.state = State::Gathering { has_heir: true };
                queue = self.gather(queue, mine);
                if queue.is_gathering(mine) {
                    queue.asleep[turn] -= 1;
                    return Some(queue.take_lead(self));
                }
            } else {
                queue = self.turns[turn].wait(queue).unwrap_or_else(|e| e.into_inner());
            }
        }
        if queue.ended < mine {
            queue.asleep[turn] -= 1; // else all who waited for it were taken off the count
        }
        None
    }

    /// The heir waits for those who are due, as long as they keep coming or somebody takes
    /// the lead.
    fn gather<'q>(&'q self, mut queue: MutexGuard<'q, Queue>, mine: u64) -> MutexGuard<'q, Queue> {
        let turn = turn(mine);
        let flush = queue.gathering.flush;
        let began = Instant::now();
        let (mut came, mut last) = (queue.asleep[turn], began);
        while came < queue.gathering.due {
            drop(queue);
            yield_now();
            queue = lock(&self.queue);
            if !queue.is_gathering(mine) {
                return queue;
            }
            if queue.asleep[turn] > came && !has_passed(began, MOST_FLUSHES * flush) {
                (came, last) = (queue.asleep[turn], Instant::now());
            } else if has_passed(last, flush / PARTS_OF_A_FLUSH) {
                queue.gathering.give_up();
                return queue;
            }
        }
        queue.gathering.complete();
        queue
    }
}

impl Queue {
    /// Whether the flush is one that callers are gathered for, and an heir waits for them.
    fn is_gathering(&self, flush: u64) -> bool {
        let has_heir = self.state == State::Gathering { has_heir: true };
        has_heir && self.ended < flush && self.failure.is_none()
    }

    fn take_lead<'c>(&mut self, commit: &'c Commit) -> Lead<'c> {
        self.state = State::Somebody;
        Lead { commit, began: Cell::new(None), unwinding: panicking() }
    }
}

impl Gathering {
    /// Those who were due did not come.
    fn give_up(&mut self) {
        self.in_vain = (self.in_vain + 1).min(6);
        self.resting = 1 << self.in_vain;
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

    /// All who were due are there.
    fn complete(&mut self) {
        if self.due > 1 {
            self.in_vain = 0;
        }
    }
}

impl Lead<'_> {
    /// What was published before is going to be flushed: who comes from now on waits for
    /// the next flush.
    pub(crate) fn begin(&self) {
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
            lock(&self.commit.queue).begun += 1;
        }
    }

    /// Moves the durable mark: everything below `durable` was flushed.
    pub(crate) fn move_to(&self, durable: u64) {
        // Release pairs with the Acquire in `durable`.
        self.commit.durable.fetch_max(durable, Ordering::Release);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let commit = self.commit;
        if panicking() && !self.unwinding {
            let source = io::Error::other("a thread panicked while it flushed the log");
            commit.fail(Arc::new(source));
        }
        self.begin(); // who came before gets to look, whether anything was flushed or not
        let took = self.began.get().map_or(Duration::ZERO, |began| began.elapsed());
        let mut queue = lock(&commit.queue);
        queue.ended = queue.begun;
        let (done, next) = (turn(queue.ended), turn(queue.ended + 1));
        let let_go = std::mem::take(&mut queue.asleep[done]) + 1;
        let asleep = queue.asleep[next];
        queue.gathering.expect(took, let_go, asleep);
        queue.state = match asleep {
            _ if queue.seeking > 0 => State::Seeker,
            0 => State::Nobody,
            _ => State::Gathering { has_heir: false },
        };
        let state = queue.state;
        drop(queue);
        match state {
            State::Seeker => commit.seekers.notify_one(),
            State::Gathering { .. } => commit.turns[next].notify_one(),
            _ => {}
        }
        if let_go > 1 {
            commit.turns[done].notify_all();
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
        let commit = Commit::new(0);
        let lead = commit.lead();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| commit.wait(|| 8, |_| unreachable!("it is covered")));
            while lock(&commit.queue).asleep != [0, 1] {
                std::thread::yield_now();
            }
            lead.begin();
            lead.move_to(8);
            drop(lead);
            sleeper.join().unwrap().unwrap();
        });
        let queue = lock(&commit.queue);
        assert_eq!((queue.asleep, queue.gathering.due), ([0, 0], 2));
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
