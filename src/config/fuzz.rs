//! A small deterministic generator that damages valid inputs, for the tests of parsers.

/// An xorshift generator; the same seed gives the same run on every machine.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % (bound.max(1) as u64)) as usize
    }

    /// Changes, repeats, removes or swaps a few pieces of the input.
    pub(crate) fn mutate(&mut self, input: &[u8]) -> Vec<u8> {
        const SPICE: &[u8] = b"\0\n \"'{}[]()$%~.:/?#@&=+-*!<>|\\,;0919azAZ_\x80\xc3\xff";
        let mut out = input.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(out.len() + 1);
            let end = (at + self.below(12)).min(out.len());
            match self.below(6) {
                0 if at < out.len() => out[at] = SPICE[self.below(SPICE.len())],
                1 => out.insert(at, SPICE[self.below(SPICE.len())]),
                2 => drop(out.drain(at..end)),
                3 => {
                    let piece = out[at..end].to_vec();
                    for _ in 0..self.below(40) {
                        out.splice(at..at, piece.iter().copied());
                    }
                }
                4 => {
                    let piece = out[at..end].to_vec();
                    let to = self.below(out.len() + 1);
                    out.splice(to..to, piece);
                }
                _ => out.truncate(at.max(1)),
            }
        }
        out
    }
}
