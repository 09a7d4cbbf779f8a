//! What is written, and how it is told afterwards that all of it came back.
//!
//! A record holds its number, its thread and pseudo-random bytes, from a few buffers that
//! are made ahead: handing one out costs a store, and it lies in the cache, as it would
//! if an engine had just built it.

const NUMBER: usize = size_of::<u64>();
const HEAD: usize = NUMBER + size_of::<u32>();
/// As many buffers as fit in this much, and at least two.
const POOL: usize = 16 << 10;

/// The records of one thread, in order.
pub struct Source {
    buffers: Vec<u8>,
    record: usize,
    mask: usize,
    next: u64,
}

impl Source {
    pub fn new(thread: usize, record: usize) -> Self {
        assert!(record >= HEAD);
        let count = (POOL / record).next_power_of_two().max(2);
        let mut buffers = vec![0; count * record];
        let mut state = thread as u64;
        for byte in &mut buffers {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *byte = (state >> 56) as u8;
        }
        for buffer in buffers.chunks_exact_mut(record) {
            buffer[NUMBER..HEAD].copy_from_slice(&(thread as u32).to_le_bytes());
        }
        Source { buffers, record, mask: count - 1, next: 0 }
    }

    /// How many were handed out.
    pub fn count(&self) -> u64 {
        self.next
    }

    #[inline]
    pub fn record(&mut self) -> &[u8] {
        let at = (self.next as usize & self.mask) * self.record;
        let record = &mut self.buffers[at..at + self.record];
        record[..NUMBER].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        record
    }
}

/// Takes what a log hands back, and tells whether it is what was written: every byte of
/// every record, each thread's in order.
pub struct Checker {
    threads: Vec<Source>,
    began: Vec<bool>,
    /// The log's beginning may have been given up, but not its end.
    truncated: bool,
    visited: u64,
    wrong: Option<String>,
}

impl Checker {
    pub fn new(threads: usize, record: usize) -> Self {
        let sources = (0..threads).map(|thread| Source::new(thread, record)).collect();
        let began = vec![false; threads];
        Checker { threads: sources, began, truncated: false, visited: 0, wrong: None }
    }

    pub fn truncated(mut self) -> Self {
        self.truncated = true;
        self
    }

    pub fn visit(&mut self, record: &[u8]) {
        self.visited += 1;
        if self.wrong.is_none() {
            self.wrong = self.check(record).err();
        }
    }

    fn check(&mut self, record: &[u8]) -> Result<(), String> {
        let head: &[u8; HEAD] = record.first_chunk().ok_or("a record is too short")?;
        let number = u64::from_le_bytes(*head.first_chunk().unwrap());
        let thread = u32::from_le_bytes(*head.last_chunk().unwrap()) as usize;
        let source = self.threads.get_mut(thread).ok_or(format!("no thread is {thread}"))?;
        if self.truncated && !self.began[thread] {
            source.next = number;
        }
        self.began[thread] = true;
        let due = source.next;
        if number != due {
            return Err(format!("record {number} of thread {thread} where {due} was due"));
        }
        if record != source.record() {
            return Err(format!("record {number} of thread {thread} has other bytes"));
        }
        Ok(())
    }

    /// `written`: how many, by each thread. Each one's last record must have come back, whatever
    /// was given up. Returns how many did.
    pub fn finish(self, written: &[u64]) -> Result<u64, String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let found: Vec<u64> = self.threads.iter().map(Source::count).collect();
        if found != written {
            return Err(format!(
                "the threads wrote {written:?} records, and the last that came back are {found:?}"
            ));
        }
        Ok(self.visited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: usize = 64;

    /// Three records of each of two threads, in turn.
    fn written() -> Vec<Vec<u8>> {
        let mut sources = [Source::new(0, RECORD), Source::new(1, RECORD)];
        (0..6).map(|number| sources[number % 2].record().to_vec()).collect()
    }

    fn checked(checker: Checker, records: &[Vec<u8>]) -> bool {
        let mut checker = checker;
        records.iter().for_each(|record| checker.visit(record));
        checker.finish(&[3, 3]).is_ok()
    }

    #[test]
    fn what_was_written_is_right_in_any_order_of_the_threads() {
        let mut records = written();
        assert!(checked(Checker::new(2, RECORD), &records));
        records.sort_by_key(|record| record[NUMBER]); // stable: thread by thread
        assert!(checked(Checker::new(2, RECORD), &records));
    }

    #[test]
    fn a_record_lost_doubled_or_moved_is_found() {
        let records = written();
        for lost in 0..records.len() {
            let mut fewer = records.clone();
            fewer.remove(lost);
            assert!(!checked(Checker::new(2, RECORD), &fewer), "without {lost}");
            let mut more = records.clone();
            more.insert(lost, records[lost].clone());
            assert!(!checked(Checker::new(2, RECORD), &more), "{lost} twice");
        }
        let mut moved = records;
        moved.swap(0, 2);
        assert!(!checked(Checker::new(2, RECORD), &moved));
    }

    #[test]
    fn any_byte_changed_is_found() {
        for byte in 0..RECORD {
            let mut records = written();
            records[3][byte] ^= 1;
            assert!(!checked(Checker::new(2, RECORD), &records), "byte {byte}");
        }
    }

    #[test]
    fn a_truncated_log_may_lack_its_beginning_and_nothing_else() {
        let records = written();
        let truncated = || Checker::new(2, RECORD).truncated();
        assert!(checked(truncated(), &records[3..]));
        assert!(!checked(truncated(), &records[..3]));
        assert!(!checked(truncated(), &[&records[..2], &records[4..]].concat()));
        assert!(!checked(truncated(), &records[5..]), "the last of a thread");
        assert!(!checked(truncated(), &[]), "nothing at all");
    }

    #[test]
    fn what_came_back_is_counted() {
        let mut checker = Checker::new(2, RECORD).truncated();
        written()[3..].iter().for_each(|record| checker.visit(record));
        assert_eq!(checker.finish(&[3, 3]), Ok(3));
    }
}
