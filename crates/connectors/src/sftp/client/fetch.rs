//! Reading with many requests in flight. A plan says what to ask for: pieces in order, and again
//! what came short. Servers may return less than asked for at any time, some always do.

use std::collections::{BTreeMap, VecDeque};

use super::core::Waiter;
use super::error::{ClientError, ClientResult};
use super::file::File;

/// So many answers in a row of the same length, all too short, and pieces get this length.
const SHORT_ANSWERS: u32 = 3;
/// Shorter answers than this do not set the length of pieces.
const SHORTEST: u32 = 1024;
/// Pieces in flight at the start of a stream. Each answer allows one more, which doubles them with
/// every round trip: nobody knows where a stream ends, or whether it is wanted to its end.
const FIRST_PIECES: usize = 4;

/// Bytes to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    offset: u64,
    length: u32,
}

/// What to ask for next. Knows nothing of requests and replies.
#[derive(Debug)]
struct Plan {
    /// All before this was asked for once.
    next: u64,
    /// Nothing is asked for from here on: the end of what is wanted, or of the file.
    end: u64,
    /// Length of new pieces.
    size: u32,
    /// What came short.
    repairs: VecDeque<Piece>,
    /// Length of the last short answer, and how many of this length came in a row.
    short: (u32, u32),
}

impl Plan {
    fn new(start: u64, length: u64, size: u32) -> Self {
        let end = start.saturating_add(length);
        Self { next: start, end, size: size.max(1), repairs: VecDeque::new(), short: (0, 0) }
    }

    /// What to ask for now; new pieces only if they start before `until`. Does not change until it
    /// is [`Plan::asked`].
    fn peek(&self, until: u64) -> Option<Piece> {
        if let Some(piece) = self.repairs.front() {
            return Some(*piece);
        }
        let left = self.end.checked_sub(self.next).filter(|left| *left > 0)?;
        let length = u32::try_from(left).unwrap_or(u32::MAX).min(self.size);
        (self.next < until).then_some(Piece { offset: self.next, length })
    }

    /// The piece of the last [`Plan::peek`] was asked for.
    fn asked(&mut self, piece: Piece) {
        if self.repairs.front() == Some(&piece) {
            self.repairs.pop_front();
        } else {
            self.next = piece.offset.saturating_add(u64::from(piece.length));
        }
    }

    /// So many bytes of the piece came, at least one and at most all.
    fn arrived(&mut self, piece: Piece, bytes: u32) {
        let left = piece.length.saturating_sub(bytes);
        if left == 0 {
            if piece.length > self.short.0 {
                self.short = (0, 0);
            }
            return;
        }
        self.short = if self.short.0 == bytes { (bytes, self.short.1 + 1) } else { (bytes, 1) };
        if self.short.1 >= SHORT_ANSWERS && bytes >= SHORTEST {
            self.size = self.size.min(bytes);
        }
        let offset = piece.offset + u64::from(bytes);
        let end = (offset + u64::from(left)).min(self.end);
        let mut from = offset;
        while from < end {
            let length = (end - from).min(u64::from(self.size)) as u32;
            self.repairs.push_back(Piece { offset: from, length });
            from += u64::from(length);
        }
    }

    /// The file ends at the start of this piece or before it.
    fn ended(&mut self, piece: Piece) {
        self.end = self.end.min(piece.offset);
        let end = self.end;
        self.repairs.retain(|piece| piece.offset < end);
    }
}

/// A plan that is carried out.
#[derive(Debug)]
struct Fetch {
    plan: Plan,
    waiting: VecDeque<(Piece, Waiter)>,
    /// Most requests in flight.
    window: usize,
}

impl Fetch {
    /// The next bytes and where they stand, in the order in which they come; `None` when all are
    /// there. Dropped before it is done, nothing is lost.
    async fn next(&mut self, file: &File, until: u64) -> ClientResult<Option<(u64, Vec<u8>)>> {
        loop {
            while self.waiting.len() < self.window {
                let Some(piece) = self.plan.peek(until) else { break };
                let waiter = file.submit_read(piece.offset, piece.length).await?;
                self.plan.asked(piece);
                self.waiting.push_back((piece, waiter));
            }
            let Some((_, waiter)) = self.waiting.front_mut() else { return Ok(None) };
            waiter.arrive().await;
            let Some((piece, waiter)) = self.waiting.pop_front() else { return Ok(None) };
            let data = waiter.get_unless_end(|reply| reply.data(piece.length as usize)).await?;
            match data.filter(|data| !data.is_empty()) {
                None => self.plan.ended(piece),
                Some(data) => {
                    self.plan.arrived(piece, data.len() as u32);
                    file.lower_read_size(self.plan.size);
                    return Ok(Some((piece.offset, data)));
                }
            }
        }
    }
}

pub(super) async fn read_into(file: &File, start: u64, buffer: &mut [u8]) -> ClientResult<usize> {
    let plan = Plan::new(start, buffer.len() as u64, file.read_size());
    // The client's own bounds are the window.
    let mut fetch = Fetch { plan, waiting: VecDeque::new(), window: usize::MAX };
    while let Some((offset, data)) = fetch.next(file, u64::MAX).await? {
        let from = (offset - start) as usize;
        if let Some(to) = buffer.get_mut(from..from + data.len()) {
            to.copy_from_slice(&data);
        }
    }
    Ok((fetch.plan.end - start) as usize)
}

/// A file read in order, with requests in flight ahead of the reader.
#[derive(Debug)]
pub struct Reader {
    file: File,
    fetch: Fetch,
    /// Where the next bytes to return start.
    position: u64,
    /// What came before it is its turn.
    ready: BTreeMap<u64, Vec<u8>>,
    /// Bytes to be ahead.
    ahead: u64,
    failed: Option<ClientError>,
}

impl Reader {
    pub(super) fn new(file: File, offset: u64, length: u64, window: usize) -> Self {
        let plan = Plan::new(offset, length, file.read_size());
        let fetch = Fetch { plan, waiting: VecDeque::new(), window: FIRST_PIECES };
        Self {
            file,
            fetch,
            position: offset,
            ready: BTreeMap::new(),
            ahead: (window as u64).max(1),
            failed: None,
        }
    }

    /// The next bytes, at least one; `None` at the end. Dropped before it is done, nothing is lost.
    /// After an error, every later call returns it again.
    pub async fn next(&mut self) -> ClientResult<Option<Vec<u8>>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            if self.position >= self.fetch.plan.end {
                return Ok(None);
            }
            if let Some(data) = self.ready.remove(&self.position) {
                self.position += data.len() as u64;
                return Ok(Some(data));
            }
            let until = self.position.saturating_add(self.ahead);
            match self.fetch.next(&self.file, until).await {
                Ok(Some((offset, data))) => {
                    self.fetch.window = self.fetch.window.saturating_add(1);
                    self.ready.insert(offset, data);
                }
                // All came, and the file ended before the rest: the end of the plan moved.
                Ok(None) => {}
                Err(error) => {
                    self.failed = Some(error.clone());
                    self.fetch.waiting.clear();
                    return Err(error);
                }
            }
        }
    }

    /// Where the next bytes to be returned stand in the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at another offset, to the end of the file. What was asked for in advance is discarded.
    pub fn seek(&mut self, offset: u64) {
        let plan = Plan::new(offset, u64::MAX, self.file.read_size());
        self.fetch = Fetch { plan, waiting: VecDeque::new(), window: FIRST_PIECES };
        self.ready.clear();
        self.position = offset;
        self.failed = None;
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file. What was asked for in advance is discarded.
    pub fn into_file(self) -> File {
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries a plan out against a file of this length on a server that returns at most `most`
    /// bytes. Returns the offsets and lengths that were asked for, and checks that all came.
    fn run(mut plan: Plan, file: u64, most: u32, in_flight: usize) -> Vec<(u64, u32)> {
        let start = plan.next;
        let wanted = plan.end.min(file.max(start));
        let (mut asked, mut waiting) = (Vec::new(), VecDeque::new());
        let mut covered: BTreeMap<u64, u64> = BTreeMap::new();
        loop {
            while waiting.len() < in_flight {
                let Some(piece) = plan.peek(u64::MAX) else { break };
                assert_eq!(plan.peek(u64::MAX), Some(piece));
                plan.asked(piece);
                asked.push((piece.offset, piece.length));
                waiting.push_back(piece);
                assert!(asked.len() < 30_000, "it goes on for ever");
            }
            let Some(piece) = waiting.pop_front() else { break };
            let bytes = file.saturating_sub(piece.offset).min(u64::from(piece.length.min(most)));
            if bytes == 0 {
                plan.ended(piece);
            } else {
                plan.arrived(piece, bytes as u32);
                assert_eq!(covered.insert(piece.offset, bytes), None, "twice");
            }
        }
        let mut position = start;
        for (offset, bytes) in covered {
            assert_eq!(offset, position);
            position += bytes;
        }
        assert_eq!((position, plan.end), (wanted, wanted));
        asked
    }

    #[test]
    fn whole_answers_need_one_request_for_each_piece() {
        let asked = run(Plan::new(10, 25, 10), 1000, 10, 3);
        assert_eq!(asked, [(10, 10), (20, 10), (30, 5)]);
        assert_eq!(run(Plan::new(10, 0, 10), 1000, 10, 3), []);
        assert_eq!(run(Plan::new(u64::MAX - 5, 100, 10), 1000, 10, 1), [(u64::MAX - 5, 5)]);
    }

    #[test]
    fn what_came_short_is_asked_for_again() {
        let mut plan = Plan::new(0, 300, 100);
        let first = plan.peek(u64::MAX).unwrap();
        plan.asked(first);
        let second = plan.peek(u64::MAX).unwrap();
        plan.asked(second);
        plan.arrived(first, 30);
        // Before anything new, and even beyond what new pieces may start at.
        assert_eq!(plan.peek(0), Some(Piece { offset: 30, length: 70 }));
        plan.asked(Piece { offset: 30, length: 70 });
        assert_eq!(plan.peek(200), None);
        assert_eq!(plan.peek(201), Some(Piece { offset: 200, length: 100 }));
    }

    #[test]
    fn nothing_is_asked_for_beyond_the_end_of_the_file() {
        let mut plan = Plan::new(0, 1000, 100);
        let pieces: Vec<_> = (0..4)
            .map(|_| {
                let piece = plan.peek(u64::MAX).unwrap();
                plan.asked(piece);
                piece
            })
            .collect();
        plan.arrived(pieces[0], 100);
        plan.arrived(pieces[2], 50);
        plan.ended(pieces[1]);
        assert_eq!((plan.end, plan.peek(u64::MAX)), (100, None));
        // The end is the first of those that were found.
        plan.ended(pieces[3]);
        assert_eq!(plan.end, 100);
    }

    #[test]
    fn every_file_comes_whole_from_every_server() {
        for file in [0, 1, 99, 100, 101, 1000, 12_345] {
            for (start, length) in [(0, 5000), (0, 100_000), (50, 10), (2000, 50), (7, 12_338)] {
                for most in [1, 7, 99, 100, 1000] {
                    for in_flight in [1, 2, 64] {
                        let asked = run(Plan::new(start, length, 1000), file, most, in_flight);
                        assert!(asked.iter().all(|(offset, _)| offset - start < length));
                    }
                }
            }
        }
    }

    #[test]
    fn pieces_become_as_short_as_the_answers() {
        let asked = run(Plan::new(0, 10_000_000, 260_000), 10_000_000, 32_768, 4);
        let large = asked.iter().filter(|(_, length)| *length > 32_768).count();
        // The first window, and what it left before the third short answer.
        assert!(large <= 8, "{large} requests for too much");
        assert!(asked.len() < 10_000_000 / 32_768 + 20, "{} requests", asked.len());

        // One short answer is chance; very short ones are another matter.
        let mut plan = Plan::new(0, 1_000_000, 100_000);
        for bytes in [50_000, 100_000, 50_000, 100_000, 50_000, 100_000, 50_000] {
            plan.arrived(Piece { offset: 0, length: 100_000 }, bytes);
        }
        assert_eq!(plan.size, 100_000);
        for _ in 0..9 {
            plan.arrived(Piece { offset: 0, length: 100_000 }, 1023);
        }
        assert_eq!(plan.size, 100_000);
    }
}
