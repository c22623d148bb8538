//! A small seeded mutator: the same seed makes the same inputs.

/// Bytes that MQTT, numbers and the formats find interesting.
const SPICE: [&[u8]; 22] = [
    &[0],
    &[0xFF],
    &[0x80],
    &[0x7F],
    &[0xFF, 0xFF, 0xFF, 0x7F],
    &[0, 0],
    &[0xFF, 0xFF],
    "é".as_bytes(),
    "😀".as_bytes(),
    b"#",
    b"+",
    b"$share/g/",
    b"devices/a/readings",
    b"devices/a/receipts",
    b"devices/b/readings",
    &[0xC0, 0],
    &[0xE0, 0],
    &[0x62, 2, 0, 1],
    &[0x40, 2, 0, 1],
    &[0x23, 0, 1],
    b"4006381333931",
    b"{\"code\":\"1\"}",
];
/// A mutated input is cut here.
const MOST_BYTES: usize = 1_024;

/// Numbers by xorshift64*.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero, and small seeds are alike without this.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.roll() >> 16) as usize % end }
    }

    fn byte(&mut self) -> u8 {
        (self.roll() >> 32) as u8
    }
}

/// One of the corpus, changed one to eight times.
pub fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(8) {
        change(&mut input, corpus, dice);
    }
    input.truncate(MOST_BYTES);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(input.len());
    match (dice.below(9), input.len()) {
        (0, 1..) => input[at] ^= 1 << dice.below(8),
        (1, 1..) => input[at] = dice.byte(),
        // Lengths, ids and codes: a little more or less.
        (2, 1..) => input[at] = input[at].wrapping_add(dice.byte() % 9).wrapping_sub(4),
        (3, 1..) => {
            let end = (at + 1 + dice.below(8)).min(input.len());
            drop(input.drain(at..end));
        }
        (4, 1..) => {
            let end = (at + 1 + dice.below(32)).min(input.len());
            let copy = input[at..end].to_vec();
            drop(input.splice(at..at, copy));
        }
        (5, 1..) => input.truncate(at),
        (6, _) => {
            let spice = SPICE[dice.below(SPICE.len())];
            drop(input.splice(at..at, spice.iter().copied()));
        }
        (7, 1..) => {
            let spice = SPICE[dice.below(SPICE.len())];
            let end = (at + spice.len()).min(input.len());
            drop(input.splice(at..end, spice.iter().copied()));
        }
        // The beginning of one, the end of another.
        _ => {
            let other = &corpus[dice.below(corpus.len())];
            input.truncate(at);
            input.extend(&other[dice.below(other.len())..]);
        }
    }
}
