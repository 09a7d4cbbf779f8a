//! The bytes are what `docs/format.md` says, and nothing else passes.

use super::*;

const DOCUMENT: &str = include_str!("../../docs/format.md");

/// The cells of the table that follows `heading` in the document.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, after) = DOCUMENT.split_once(heading).expect("the document has this heading");
    let rows = after.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let cells = |row: &'static str| row.trim_matches('|').split('|').map(|c| c.trim()).collect();
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn number(cell: &str) -> u64 {
    let digits = cell.strip_prefix("0x").expect("numbers in tables are hexadecimal");
    u64::from_str_radix(digits, 16).unwrap()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| number(&format!("0x{}", &digits[i..i + 2])) as u8)
        .collect()
}

/// The lines of the document's dump: offset, bytes, note.
fn dump_of_the_document() -> impl Iterator<Item = (&'static str, &'static str)> {
    let (_, after) = DOCUMENT.split_once("```dump").expect("the document has a dump");
    let (block, _) = after.split_once("```").unwrap();
    block.lines().filter(|line| !line.is_empty()).map(|line| {
        let (offset, rest) = line.split_once("  ").expect("two spaces between columns");
        (offset, rest.split_once("  ").expect("every line of the dump has a note").0)
    })
}

/// The segment in the document's dump, with zeros where the dump has nothing.
pub(crate) fn segment_of_the_document() -> Vec<u8> {
    let mut segment = vec![0; 64 << 10];
    for (offset, bytes) in dump_of_the_document() {
        put(&mut segment, number(&format!("0x{offset}")) as usize, &hex(bytes));
    }
    segment
}

/// A segment of epoch 18 with a frame of every kind, as the document shows it.
fn sample() -> Vec<u8> {
    const EPOCH: u32 = 18;
    let header = SegmentHeader {
        uuid: std::array::from_fn(|i| 0x11 * i as u8),
        index: 2,
        segment_size: 64 << 10,
        slots: 1,
        salt: 0x0123_4567_89ab_cdef,
    };
    let mut bytes = header.encode().to_vec();
    let mut ordinal = 0;
    let mut frame = |kind: Kind, seed_epoch: u32, durable: u64, payload: &[u8]| {
        let lsn = header.index * header.segment_size + bytes.len() as u64;
        let tag = Tag::new(ordinal, EPOCH, lsn, durable);
        bytes.extend(encode_frame(kind, seed(header.salt, seed_epoch), lsn, tag, payload));
        ordinal += kind.counts() as u32;
    };
    let state = |reason, head, durable| State {
        reason,
        epoch: EPOCH,
        head: Lsn(head),
        durable: Lsn(durable),
        time_ns: 1_700_000_000_000_000_000,
    };
    let begin = Begin {
        predecessor_index: 1,
        predecessor_salt: 0xfedc_ba98_7654_3210,
        predecessor_end: 0x1_fe00,
        first_sequence: 301,
    };
    let begin = state(Reason::Begin(begin), 0x1_1050, 0x1_fe00);
    let head = state(Reason::Head, 0x2_1068, 0x2_10b0);
    let seal = Seal { next_index: 3, next_salt: 0x0f1e_2d3c_4b5a_6978 };
    frame(Kind::State, begin.seed_epoch(), 0x1_fe00, &begin.encode());
    frame(Kind::Record, EPOCH, 0x1_fe00, b"one");
    frame(Kind::More, EPOCH, 0x2_1068, b"two");
    frame(Kind::Last, EPOCH, 0x2_1068, b"three");
    frame(Kind::Abandoned, EPOCH, 0x2_1068, b"half\0");
    frame(Kind::State, head.seed_epoch(), 0x2_10b0, &head.encode());
    frame(Kind::Seal, EPOCH, 0x2_10b0, &seal.encode());
    bytes
}

/// Where the fields of a segment begin, its last frame's end included.
fn fields(segment: &[u8]) -> Vec<usize> {
    let mut starts =
        vec![MAGIC, VERSION_AT, SLOTS, UUID, INDEX, SEGMENT_SIZE, SALT, ZEROS, HEADER_CHECK];
    let mut at = SEGMENT_HEADER;
    while at < segment.len() {
        let word = u32_at(segment, at);
        let inner: &[usize] = match (kind(word), payload_len(word)) {
            (Some(Kind::Seal), _) => &[SEAL_SALT],
            (Some(Kind::State), STATE_LEN) => &[EPOCH, HEAD, DURABLE, TIME],
            (Some(Kind::State), _) => &[
                EPOCH,
                HEAD,
                DURABLE,
                TIME,
                PREDECESSOR_INDEX,
                PREDECESSOR_SALT,
                PREDECESSOR_END,
                FIRST_SEQUENCE,
            ],
            _ => &[],
        };
        starts.extend([WORD, CHECK, ORDINAL, MARK, FRAME_HEADER].map(|field| at + field));
        starts.extend(inner.iter().map(|field| at + FRAME_HEADER + field));
        starts.push(at + FRAME_HEADER + payload_len(word));
        at += frame_size(payload_len(word)) as usize;
    }
    starts.push(at);
    starts
}

#[test]
fn the_hex_dump_in_the_format_document_is_what_the_code_writes() {
    let segment = sample();
    let written: Vec<_> = fields(&segment)
        .windows(2)
        .filter(|field| field[0] != ZEROS && field[0] < field[1])
        .map(|field| {
            let bytes: Vec<_> =
                segment[field[0]..field[1]].iter().map(|b| format!("{b:02x}")).collect();
            (format!("{:04x}", field[0]), bytes.join(" "))
        })
        .collect();
    let shown: Vec<_> =
        dump_of_the_document().map(|(at, bytes)| (at.to_owned(), bytes.to_owned())).collect();
    assert_eq!(shown, written);
}

#[test]
fn seeds_are_those_of_the_document() {
    let rows = table("### Seed vectors");
    assert!(rows.len() >= 4);
    for row in rows {
        let [salt, epoch, expected] = row[..] else { panic!("{row:?}") };
        let seed = seed(number(salt), number(epoch) as u32);
        assert_eq!(format!("{seed:#010x}"), expected, "{row:?}");
    }
}

#[test]
fn checks_are_those_of_the_document() {
    let rows = table("### Check vectors");
    assert!(rows.len() >= 6);
    for row in rows {
        let [seed, word, lsn, tag, payload, expected] = row[..] else { panic!("{row:?}") };
        let (word, tag) = (number(word) as u32, Tag(number(tag)));
        let check = check(number(seed) as u32, word, number(lsn), tag, &hex(payload));
        assert_eq!(format!("{check:#010x}"), expected, "{row:?}");
    }
}

#[test]
fn the_logs_own_frames_have_the_sizes_in_the_document() {
    assert_eq!([SEAL_SIZE, STATE_SIZE, BEGIN_SIZE, RESERVE], [32, 48, 80, 256]);
    assert_eq!([0, 1, 8, 9].map(frame_size), [16, 24, 24, 32]);
}

fn header() -> SegmentHeader {
    SegmentHeader::decode(&array_at(&sample(), 0)).unwrap()
}

/// The bytes of [`header`] after `change`, with the check made right again.
fn changed_header(change: impl Fn(&mut [u8])) -> [u8; SEGMENT_HEADER] {
    let mut bytes = header().encode();
    change(&mut bytes);
    let check = crc32c::crc32c(&bytes[..HEADER_CHECK]);
    put(&mut bytes, HEADER_CHECK, &check.to_le_bytes());
    bytes
}

#[test]
fn a_segment_header_is_read_as_it_was_written() {
    let header = SegmentHeader {
        uuid: *b"sixteen bytes id",
        index: 0x1122_3344_5566_7788,
        segment_size: 1 << 32,
        slots: u32::MAX,
        salt: u64::MAX - 1,
    };
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
}

#[test]
#[cfg_attr(miri, ignore = "hashes 128 MiB")]
fn every_flipped_bit_of_a_segment_header_is_refused() {
    let mut bytes = header().encode();
    for bit in 0..8 * SEGMENT_HEADER {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit / 8 < VERSION_AT { BadHeader::Magic } else { BadHeader::Check };
        assert_eq!(SegmentHeader::decode(&bytes), Err(expected), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_newer_header_is_told_from_a_damaged_one() {
    let newer = changed_header(|bytes| {
        put(bytes, VERSION_AT, &(VERSION + 1).to_le_bytes());
        bytes[SLOTS..HEADER_CHECK].fill(0xa5); // whatever it may mean then
    });
    assert_eq!(SegmentHeader::decode(&newer), Err(BadHeader::Version(VERSION + 1)));
    let zero = changed_header(|bytes| put(bytes, VERSION_AT, &[0; 4]));
    assert_eq!(SegmentHeader::decode(&zero), Err(BadHeader::Check));
}

#[test]
fn a_header_with_more_in_it_than_version_1_has_is_refused() {
    for at in [ZEROS, HEADER_CHECK - 1] {
        let more = changed_header(|bytes| bytes[at] = 1);
        assert_eq!(SegmentHeader::decode(&more), Err(BadHeader::Check), "byte {at}");
    }
}

#[test]
fn a_file_name_is_sixteen_lower_case_hexadecimal_digits() {
    for index in [0, 1, 0xabc, u64::MAX] {
        assert_eq!(file_index(&file_name(index)), Some(index));
    }
    assert_eq!(file_name(0x2f), "000000000000002f.wal");
    for name in [
        "LOCK",
        "000000000000002f",
        "000000000000002f.tmp",
        "000000000000002F.wal",
        "00000000000002f.wal",
        "0000000000000002f.wal",
        "+00000000000002f.wal",
        "000000000000002g.wal",
    ] {
        assert_eq!(file_index(name), None, "{name}");
    }
}

#[test]
fn a_word_holds_kind_and_length() {
    use Kind::*;
    for (number, expected) in [Record, More, Last, Abandoned, Seal, State].into_iter().enumerate() {
        for len in [0, 1, MAX_RECORD] {
            let word = word(expected, len);
            assert_eq!((kind(word), payload_len(word)), (Some(expected), len));
            assert_eq!(word >> 28, number as u32 + 1);
        }
    }
    for unknown in [0, 7, 8, 15] {
        assert_eq!(kind(unknown << 28 | 5), None, "{unknown}");
    }
}

#[test]
#[should_panic(expected = "has no word")]
fn a_payload_that_is_too_long_has_no_word() {
    word(Kind::Record, MAX_RECORD + 1);
}

#[test]
fn a_tag_says_what_was_put_in() {
    for (ordinal, epoch) in [(0, 0), (1, 1), (ORDINAL_MASK, 15), (7, 16), (0x0abc_def0, u32::MAX)] {
        let tag = Tag::new(ordinal, epoch, 0x11000, 0x10008);
        assert_eq!((tag.ordinal(), tag.nibble()), (ordinal, nibble(epoch)));
        assert_eq!(tag.durable(0x11000), Some(0x10008));
    }
}

#[test]
fn a_mark_out_of_range_is_no_mark() {
    let farthest = (NO_MARK as u64 - 1) * ALIGN;
    let lsn = 1 << 40;
    let durable = |durable| Tag::new(1, 1, lsn, durable).durable(lsn);
    assert_eq!(durable(lsn), Some(lsn));
    assert_eq!(durable(lsn - farthest), Some(lsn - farthest));
    assert_eq!(durable(lsn - farthest - ALIGN), None);
    assert_eq!(durable(0), None);
    assert_eq!(durable(lsn + ALIGN), None, "no frame vouches for itself");
    // read in a damaged frame: it reaches below the first byte of the log
    assert_eq!(Tag::new(1, 1, 16, 0).durable(8), None);
}

#[test]
fn states_and_seals_are_read_as_they_were_written() {
    let begin =
        Begin { predecessor_index: 1, predecessor_salt: 2, predecessor_end: 3, first_sequence: 4 };
    for reason in [Reason::Begin(begin), Reason::Open, Reason::Head, Reason::Close] {
        let (head, durable) = (Lsn(6), Lsn(7));
        let state = State { reason, epoch: 5, head, durable, time_ns: 8 };
        let mut payload = state.encode();
        assert_eq!(State::decode(&payload), Some(state));
        payload.push(0);
        assert_eq!(State::decode(&payload), None, "{reason:?} is longer");
        payload.truncate(STATE_LEN - 1);
        assert_eq!(State::decode(&payload), None, "{reason:?} is shorter");
    }
    let seal = Seal { next_index: 9, next_salt: 10 };
    assert_eq!(Seal::decode(&seal.encode()), Some(seal));
    assert_eq!(Seal::decode(&seal.encode()[1..]), None);
}

#[test]
fn a_state_of_epoch_0_or_for_no_known_reason_is_none() {
    let (reason, head, durable) = (Reason::Head, Lsn(6), Lsn(7));
    let state = State { reason, epoch: 0, head, durable, time_ns: 8 };
    assert_eq!(State::decode(&state.encode()), None);
    for reason in [0, REASON_BEGIN, REASON_CLOSE + 1] {
        let mut payload = State { epoch: 1, ..state }.encode();
        put(&mut payload, REASON, &reason.to_le_bytes());
        assert_eq!(State::decode(&payload), None, "reason {reason}, {STATE_LEN} bytes");
    }
}
