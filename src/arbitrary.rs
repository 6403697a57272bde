//! Bad input for the tests of all parsers: arbitrary bytes, and good input with some damage.
//!
//! Every run tries a thousand cases per property; `PROPTEST_CASES=100000 cargo test --lib arbitrary`
//! tries more.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;

/// The fewest cases that a run tries.
const MIN_CASES: u32 = 1_000;

/// Returns the configuration of a property: a failing case is printed, and saved in no file.
pub(crate) fn config() -> Config {
    let known = Config::default();
    Config {
        cases: known.cases.max(MIN_CASES),
        failure_persistence: None,
        ..known
    }
}

/// One piece of damage.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<Index>;
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..4),
            proptest::sample::select(PIECES.as_slice()).prop_map(<[u8]>::to_vec),
        ];
        prop_oneof![
            (at(), 0..8_u8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            (at(), piece).prop_map(|(at, piece)| Self::Insert(at, piece)),
            (at(), 1..20_usize).prop_map(|(at, length)| Self::Remove(at, length)),
            (at(), 1..20_usize, 1..60_usize)
                .prop_map(|(at, length, times)| Self::Repeat(at, length, times)),
            at().prop_map(Self::Cut),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match self {
            Self::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Flip(..) => {}
            Self::Insert(at, piece) => {
                let at = place(at);
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Remove(at, length) => {
                let at = place(at);
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Repeat(at, length, times) => {
                let at = place(at);
                let end = (at + length).min(bytes.len());
                let piece = bytes[at..end].repeat(*times);
                bytes.splice(at..at, piece);
            }
            Self::Cut(at) => bytes.truncate(place(at)),
        }
    }
}

/// Text with a meaning for some parser.
const PIECES: [&[u8]; 24] = [
    b"\n",
    b"\0",
    b"\"",
    b"${",
    b"}",
    b"[",
    b"]",
    b"{",
    b"(",
    b"<<-X\n",
    b"/",
    b"..",
    b"%",
    b"%00",
    b"?",
    b"&",
    b"=",
    b"#",
    b"@",
    b"://",
    b"18446744073709551616",
    b"-1",
    b"\xff",
    b"\xe2\x80\xae",
];

/// Makes one of these inputs with some damage.
pub(crate) fn damaged(good: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec(Damage::any(), 0..8);
    (proptest::sample::select(good), damage).prop_map(|(mut bytes, damage)| {
        damage.iter().for_each(|one| one.apply(&mut bytes));
        bytes
    })
}

/// Makes arbitrary bytes, or one of these inputs with some damage.
pub(crate) fn bytes(good: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..400),
        3 => damaged(good),
    ]
}

/// Makes such input as text, for parsers that take no bytes.
pub(crate) fn text(good: &[&str]) -> impl Strategy<Value = String> {
    let good = good.iter().map(|text| text.as_bytes().to_vec()).collect();
    bytes(good).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
