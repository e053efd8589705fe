//! What the blocks of a unit may hold, from what was begun, acknowledged and left in doubt.
//!
//! Every write has a stamp, and a block says its own number and stamp in each of its words: whatever is read tells where and
//! when it comes from. Stamp 0 is zeros.

/// What a block should hold, of those that were written by one writer.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    seed: u64,
    first: u64,
    block_bytes: usize,
    blocks: Vec<Vec<Value>>,
    /// Counts the beginnings and ends of writes.
    clock: u64,
}

/// A stamp that a block may hold, and when the write ended that brought it.
#[derive(Clone, Copy, Debug)]
struct Value {
    stamp: u64,
    ended: Option<u64>,
}

/// A write that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) stamp: u64,
    begun: u64,
    block: usize,
    blocks: usize,
    zeros: bool,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What may be there.
    Right,
    /// What was there once: a write that was acknowledged is lost.
    Lost,
    /// What never was there.
    Wrong,
}

impl Model {
    /// So many blocks from number `first` that hold zeros, or that nobody has looked at yet.
    pub(crate) fn new(seed: u64, first: u64, blocks: usize, block_bytes: usize) -> Self {
        let zeros = Value {
            stamp: 0,
            ended: Some(0),
        };
        Self {
            seed,
            first,
            block_bytes,
            blocks: vec![vec![zeros]; blocks],
            clock: 1,
        }
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The offset of a block, in bytes.
    pub(crate) fn offset(&self, block: usize) -> u64 {
        (self.first + block as u64) * self.block_bytes as u64
    }

    /// A write of these blocks begins.
    pub(crate) fn begin(&mut self, block: usize, blocks: usize, zeros: bool) -> Begun {
        self.clock += 1;
        let begun = Begun {
            stamp: self.clock,
            begun: self.clock,
            block,
            blocks,
            zeros,
        };
        for values in &mut self.blocks[block..block + blocks] {
            values.push(Value {
                stamp: begun.value(),
                ended: None,
            });
        }
        begun
    }

    /// A write was acknowledged: what was there before it began is gone for good.
    pub(crate) fn acknowledge(&mut self, write: Begun) {
        let now = self.tick();
        for values in &mut self.blocks[write.block..write.block + write.blocks] {
            values.retain(|value| value.ended.is_none_or(|ended| ended > write.begun));
        }
        self.end(write, now);
    }

    /// A write ended, and nobody knows whether it happened; it must not happen later.
    pub(crate) fn doubt(&mut self, write: Begun) {
        let now = self.tick();
        self.end(write, now);
    }

    /// The bytes that a write brings.
    pub(crate) fn bytes(&self, write: Begun) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(write.blocks * self.block_bytes);
        for block in write.block..write.block + write.blocks {
            self.put(&mut bytes, block, write.value());
        }
        bytes
    }

    /// The bytes of these blocks, if there is no doubt about them.
    pub(crate) fn known(&self, block: usize, blocks: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(blocks * self.block_bytes);
        for block in block..block + blocks {
            match self.blocks[block][..] {
                [value] => self.put(&mut bytes, block, value.stamp),
                _ => return None,
            }
        }
        Some(bytes)
    }

    /// Judges what was read while nothing was written: how many blocks were lost, and how many are wrong. What was found
    /// is what has to be found from then on.
    pub(crate) fn judge(&mut self, block: usize, bytes: &[u8]) -> (u64, u64) {
        let (mut lost, mut wrong) = (0, 0);
        for (at, bytes) in bytes.chunks(self.block_bytes).enumerate() {
            match self.judge_block(block + at, bytes) {
                Verdict::Right => {}
                Verdict::Lost => lost += 1,
                Verdict::Wrong => wrong += 1,
            }
        }
        (lost, wrong)
    }

    fn judge_block(&mut self, block: usize, bytes: &[u8]) -> Verdict {
        let Some(stamp) = self.stamp_of(block, bytes) else {
            return Verdict::Wrong;
        };
        let values = &mut self.blocks[block];
        let possible = values.iter().any(|value| value.stamp == stamp);
        *values = vec![Value {
            stamp,
            ended: Some(self.clock),
        }];
        match possible {
            true => Verdict::Right,
            false if stamp <= self.clock => Verdict::Lost,
            false => Verdict::Wrong,
        }
    }

    /// The stamp that a block holds, if every word of it agrees.
    fn stamp_of(&self, block: usize, bytes: &[u8]) -> Option<u64> {
        let head = bytes.get(8..16)?.try_into().ok()?;
        let stamp = u64::from_le_bytes(head);
        let mut expected = Vec::with_capacity(self.block_bytes);
        self.put(&mut expected, block, stamp);
        (expected == bytes).then_some(stamp)
    }

    fn put(&self, bytes: &mut Vec<u8>, block: usize, stamp: u64) {
        if stamp == 0 {
            bytes.resize(bytes.len() + self.block_bytes, 0);
            return;
        }
        let number = self.first + block as u64;
        let mut word = mix(self.seed ^ mix(number) ^ stamp);
        bytes.extend(number.to_le_bytes());
        bytes.extend(stamp.to_le_bytes());
        for _ in 2..self.block_bytes / 8 {
            word = word.wrapping_mul(MULTIPLIER).wrapping_add(1);
            bytes.extend(word.to_le_bytes());
        }
    }

    fn end(&mut self, write: Begun, now: u64) {
        for values in &mut self.blocks[write.block..write.block + write.blocks] {
            let stamp = write.value();
            let own = |value: &&mut Value| value.stamp == stamp && value.ended.is_none();
            if let Some(value) = values.iter_mut().find(own) {
                value.ended = Some(now);
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Begun {
    fn value(self) -> u64 {
        if self.zeros { 0 } else { self.stamp }
    }
}

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014).
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Knuth's multiplier for a linear congruence of 64 bits.
pub(crate) const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

#[cfg(test)]
mod tests {
    use super::Model;

    #[test]
    fn an_acknowledged_write_is_all_that_may_be_there() {
        let mut model = Model::new(1, 5, 4, 512);
        let write = model.begin(1, 2, false);
        model.acknowledge(write);
        let bytes = model.bytes(write);
        assert_eq!(model.judge(1, &bytes), (0, 0));
        assert_eq!(model.judge(1, &vec![0; 1024]), (2, 0));
        // Once it was told, what is there is there.
        assert_eq!(model.judge(1, &vec![0; 1024]), (0, 0));
        assert_eq!(model.judge(0, &[0; 512]), (0, 0));
    }

    #[test]
    fn bytes_of_another_block_or_of_nobody_are_wrong() {
        let mut model = Model::new(1, 5, 4, 512);
        let write = model.begin(0, 2, false);
        model.acknowledge(write);
        let mut bytes = model.bytes(write);
        bytes.rotate_left(512);
        assert_eq!(model.judge(0, &bytes), (0, 2));
        bytes.rotate_left(512);
        bytes[700] ^= 1;
        assert_eq!(model.judge(0, &bytes), (0, 1));
    }

    #[test]
    fn what_is_in_doubt_may_be_there_until_something_later_is_acknowledged() {
        let mut model = Model::new(1, 0, 1, 512);
        let first = model.begin(0, 1, false);
        model.acknowledge(first);
        let doubted = model.begin(0, 1, false);
        model.doubt(doubted);
        assert_eq!(model.known(0, 1), None);
        let mut either = model.clone();
        assert_eq!(either.judge(0, &model.bytes(first)), (0, 0));
        let mut either = model.clone();
        assert_eq!(either.judge(0, &model.bytes(doubted)), (0, 0));
        let last = model.begin(0, 1, true);
        model.acknowledge(last);
        assert_eq!(model.known(0, 1), Some(vec![0; 512]));
        assert_eq!(model.judge(0, &model.bytes(doubted)), (1, 0));
    }

    #[test]
    fn of_writes_at_one_time_either_may_be_the_last() {
        let mut model = Model::new(1, 0, 1, 512);
        let one = model.begin(0, 1, false);
        let other = model.begin(0, 1, false);
        model.acknowledge(other);
        model.acknowledge(one);
        for write in [one, other] {
            let mut either = model.clone();
            assert_eq!(either.judge(0, &model.bytes(write)), (0, 0));
        }
        assert_eq!(model.judge(0, &[0; 512]), (1, 0));
    }
}
