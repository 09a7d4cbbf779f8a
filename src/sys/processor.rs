//! Where threads run that are to run side by side.
//!
//! To a guest, a processor of its own that sleeps looks like one that its host has taken away
//! (`available_idle_cpu` in Linux). So a thread that begins is often left beside the one that
//! started it, each waiting for the other's share of time, while another processor is idle.

use std::thread::Thread;

/// A thread that waits to be [woken](Self::wake).
pub(crate) struct Parked {
    thread: Thread,
    #[cfg(all(target_os = "linux", not(miri)))]
    id: libc::pid_t,
}

impl Parked {
    /// This thread, which is about to park.
    pub(crate) fn current() -> Self {
        Parked {
            thread: std::thread::current(),
            // SAFETY: takes nothing, and has no other effect. (Its function needs glibc 2.30.)
            #[cfg(all(target_os = "linux", not(miri)))]
            id: unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t,
        }
    }

    /// Wakes it on another processor than this thread's, if it may run on one, and there is no
    /// filter of system calls that could mind. Afterwards it may run wherever it could before:
    /// also if it has not run yet, since somebody else has that processor. It must not end before
    /// this returns: its number could be another thread's.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn wake(&self) {
        let all = if is_filtered() { None } else { affinity(self.id) };
        let is_elsewhere = all.is_some_and(|all| set_affinity(self.id, &without_this_one(all)));
        self.thread.unpark();
        if let (true, Some(all)) = (is_elsewhere, all) {
            set_affinity(self.id, &all);
        }
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(crate) fn wake(&self) {
        self.thread.unpark();
    }
}

/// The processors that a thread may run on; `None` if they do not fit.
#[cfg(all(target_os = "linux", not(miri)))]
fn affinity(thread: libc::pid_t) -> Option<libc::cpu_set_t> {
    // SAFETY: a set of bits, all of them zero; the call writes no more than its size.
    unsafe {
        let mut may: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(thread, size_of_val(&may), &mut may) == 0).then_some(may)
    }
}

/// Whether that could be set.
#[cfg(all(target_os = "linux", not(miri)))]
fn set_affinity(thread: libc::pid_t, may: &libc::cpu_set_t) -> bool {
    // SAFETY: the call reads a set of that size.
    unsafe { libc::sched_setaffinity(thread, size_of_val(may), may) == 0 }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn without_this_one(mut processors: libc::cpu_set_t) -> libc::cpu_set_t {
    // SAFETY: the first takes nothing; what is cleared is in the set.
    unsafe {
        let this = libc::sched_getcpu();
        if usize::try_from(this).is_ok_and(|this| this < 8 * size_of_val(&processors)) {
            libc::CPU_CLR(this as usize, &mut processors);
        }
    }
    processors
}

/// Whether system calls of this thread are filtered, or may be: one that is not allowed may end
/// the process.
#[cfg(all(target_os = "linux", not(miri)))]
fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    !status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "0"]))
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn processors() -> usize {
        thread::available_parallelism().map_or(1, |n| n.get())
    }

    #[test]
    fn a_thread_that_was_woken_elsewhere_may_run_on_all_processors() {
        let (parked, threads) = mpsc::channel();
        let thread = thread::spawn(move || {
            parked.send(Parked::current()).unwrap();
            thread::park();
            parked.send(Parked::current()).unwrap();
            thread::park();
            processors()
        });
        threads.recv().unwrap().wake();
        threads.recv().unwrap().wake();
        assert_eq!(thread.join().unwrap(), processors());
    }

    #[test]
    fn a_thread_under_a_filter_is_known_to_be() {
        // SAFETY: takes nothing else, and has no effect.
        let mode = unsafe { libc::prctl(libc::PR_GET_SECCOMP) };
        assert_eq!(is_filtered(), mode != 0, "as where the test runs");
        let filtered = thread::spawn(|| {
            // SAFETY: a filter of one instruction, which allows all; it is this thread's alone.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                let mut allow = libc::sock_filter {
                    code: (libc::BPF_RET | libc::BPF_K) as u16,
                    jt: 0,
                    jf: 0,
                    k: libc::SECCOMP_RET_ALLOW,
                };
                let program = libc::sock_fprog { len: 1, filter: &mut allow };
                let mode = libc::SECCOMP_MODE_FILTER;
                assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program), 0);
            }
            is_filtered()
        });
        assert!(filtered.join().unwrap());
    }
}
