//! Where threads run that are to run side by side.

/// A processor that a thread runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor(#[cfg_attr(not(target_os = "linux"), allow(dead_code))] usize);

impl Processor {
    /// This thread's, if that can be told.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn current() -> Option<Self> {
        // SAFETY: takes nothing, and has no other effect.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok().map(Processor)
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(crate) fn current() -> Option<Self> {
        None
    }

    /// Has this thread go on on another one, if it may. Afterwards it may run wherever it could.
    ///
    /// To a guest, a processor of its own that sleeps looks like one that its host has taken away
    /// (`available_idle_cpu` in Linux), and so a thread that begins is left beside the one that
    /// started it, each waiting for the other's share of time, while another processor is idle.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn leave(self) {
        use std::mem::{size_of, zeroed};
        // SAFETY: a set of bits, all of them zero; the calls take one of that size, for this
        // thread, and what is cleared is checked to be in it.
        unsafe {
            let mut may: libc::cpu_set_t = zeroed();
            let size = size_of::<libc::cpu_set_t>();
            if libc::sched_getaffinity(0, size, &mut may) != 0 || self.0 >= 8 * size {
                return; // more processors than the set has room for
            }
            let mut others = may;
            libc::CPU_CLR(self.0, &mut others);
            if libc::sched_setaffinity(0, size, &others) == 0 {
                libc::sched_setaffinity(0, size, &may);
            }
        }
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(crate) fn leave(self) {}
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn whoever_left_a_processor_may_run_on_all_of_them_again() {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let left = Processor::current().unwrap();
        std::thread::spawn(move || {
            left.leave();
            assert_eq!(std::thread::available_parallelism().map_or(1, |n| n.get()), processors);
        })
        .join()
        .unwrap();
    }
}
