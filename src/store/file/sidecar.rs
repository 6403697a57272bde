//! The sidecar: a small file with the metadata of one object's contents.
//!
//! It holds up to two entries, newest last: the content that a put replaces, and the new content.
//! Whichever of the two is in place after a crash, its stamp is there.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Split;

use crate::model::{Author, Base, PlanStatus, Sha256, Stamp, when_from_text, when_to_text};
use crate::store::SignedStamp;

const HEADER: &str = "atlasfs-stamps 1";
/// The prefixes of an author, a status and a signature.
const AUTHOR: &str = "author:";
const STATUS: &str = "status:";
const MAC: &str = "hmac:";

/// The most bytes of a sidecar that are read. 4 KiB: two entries and their checksum take less than
/// two kilobytes.
pub(super) const MAX_SIDECAR_BYTES: u64 = 4 << 10;

/// Tells whether bytes are a sidecar, possibly a damaged one: a crash may leave an empty file.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.starts_with(HEADER.as_bytes())
}

/// The record of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SidecarEntry {
    /// The content was pushed, with this stamp.
    Stamped(SignedStamp),
    /// The content was put into the folder by hand, and then a push replaced it. It has no stamp,
    /// and must not look corrupt after a crash during that push.
    Plain {
        /// The hash of the content.
        sha256: Sha256,
        /// The size of the content.
        size: u64,
    },
}

impl SidecarEntry {
    /// Returns the stamp, if there is one.
    pub(super) fn stamp(self) -> Option<SignedStamp> {
        match self {
            SidecarEntry::Stamped(stamp) => Some(stamp),
            SidecarEntry::Plain { .. } => None,
        }
    }

    fn describes(self, sha: Sha256, length: u64) -> bool {
        match self {
            SidecarEntry::Stamped(SignedStamp {
                stamp: Stamp { sha256, size, .. },
                ..
            })
            | SidecarEntry::Plain { sha256, size } => sha256 == sha && size == length,
        }
    }
}

/// The entries of one object, oldest first; the last one is always a stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sidecar {
    before: Option<SidecarEntry>,
    newest: SignedStamp,
}

/// The sidecar is unreadable: damaged, or not a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its stamp is unreadable")]
pub(super) struct SidecarError;

impl Sidecar {
    /// Describes the put of a content stamped `newest` over the content that `before` describes.
    pub(super) fn new(before: Option<SidecarEntry>, newest: SignedStamp) -> Self {
        Self { before, newest }
    }

    /// Returns the stamp of the newest put, complete or not.
    pub(super) fn newest(&self) -> SignedStamp {
        self.newest
    }

    /// Finds the entry of the content with this time, hash and size. The time only decides between
    /// two pushes of the same bytes, because a copied file has its own time.
    pub(super) fn find(&self, when: u64, sha256: Sha256, size: u64) -> Option<SidecarEntry> {
        self.by_time(when, size)
            .filter(|entry| entry.describes(sha256, size))
            .or_else(|| self.by_hash(sha256, size))
    }

    /// Finds the entry of the content with this hash and size.
    pub(super) fn by_hash(&self, sha256: Sha256, size: u64) -> Option<SidecarEntry> {
        self.entries().find(|entry| entry.describes(sha256, size))
    }

    /// Finds the entry of the content whose file has this time and size. A put sets the file's time
    /// to the stamp's `when`, and no two stamps share one.
    pub(super) fn by_time(&self, when: u64, size: u64) -> Option<SidecarEntry> {
        self.entries().find(|entry| {
            entry
                .stamp()
                .is_some_and(|it| it.stamp.when == when && it.stamp.size == size)
        })
    }

    /// Returns the entries, newest first.
    fn entries(&self) -> impl Iterator<Item = SidecarEntry> {
        std::iter::once(SidecarEntry::Stamped(self.newest)).chain(self.before)
    }

    /// Writes the sidecar as text.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for entry in self
            .before
            .into_iter()
            .chain([SidecarEntry::Stamped(self.newest)])
        {
            // Writing to a String can't fail.
            let _ = match entry {
                SidecarEntry::Stamped(SignedStamp { stamp, mac }) => writeln!(
                    text,
                    "stamp {} {} {} {}{}{}{}{}",
                    when_to_text(stamp.when),
                    stamp.sha256,
                    stamp.size,
                    stamp.format,
                    stamp
                        .base
                        .to_text()
                        .map_or(String::new(), |base| format!(" {base}")),
                    stamp.author.map_or(String::new(), |author| format!(
                        " {AUTHOR}{}",
                        author.to_metadata()
                    )),
                    stamp
                        .status
                        .to_text()
                        .map_or(String::new(), |status| format!(" {STATUS}{status}")),
                    mac.map_or(String::new(), |mac| format!(" {MAC}{mac}"))
                ),
                SidecarEntry::Plain { sha256, size } => writeln!(text, "plain {sha256} {size}"),
            };
        }
        let sum = Sha256::of(text.as_bytes());
        let _ = writeln!(text, "sum {sum}");
        text
    }

    /// Parses the output of [`Sidecar::to_text`]; anything else is an error.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SidecarError> {
        let parse = || {
            let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
            let (body, sum) = text.rsplit_once("\nsum ")?;
            let body = format!("{body}\n");
            if sum != Sha256::of(body.as_bytes()).to_string() {
                return None;
            }
            let mut lines = body.lines();
            if lines.next() != Some(HEADER) {
                return None;
            }
            let entries: Vec<SidecarEntry> = lines.map(parse_entry).collect::<Option<_>>()?;
            match entries.as_slice() {
                [SidecarEntry::Stamped(newest)] => Some(Self::new(None, *newest)),
                [before, SidecarEntry::Stamped(newest)] => Some(Self::new(Some(*before), *newest)),
                _ => None,
            }
        };
        parse().ok_or(SidecarError)
    }
}

/// Takes the next word if it has this prefix; returns the rest of it.
fn labelled<'a>(words: &mut Peekable<Split<'a, char>>, prefix: &str) -> Option<&'a str> {
    let word = words.next_if(|word| word.starts_with(prefix))?;
    word.strip_prefix(prefix)
}

fn parse_entry(line: &str) -> Option<SidecarEntry> {
    let mut words = line.split(' ').peekable();
    let entry = match words.next()? {
        "stamp" => SidecarEntry::Stamped(SignedStamp {
            stamp: Stamp {
                when: when_from_text(words.next()?)?,
                sha256: words.next()?.parse().ok()?,
                size: words.next()?.parse().ok()?,
                format: words.next()?.parse().ok()?,
                // Stamps of earlier versions have none.
                base: match words
                    .next_if(|word| ![AUTHOR, STATUS, MAC].iter().any(|it| word.starts_with(it)))
                {
                    Some(base) => base.parse().ok()?,
                    None => Base::Unknown,
                },
                author: labelled(&mut words, AUTHOR).and_then(Author::from_metadata),
                status: PlanStatus::from_text(labelled(&mut words, STATUS)).ok()?,
            },
            mac: match labelled(&mut words, MAC) {
                Some(mac) => Some(mac.parse().ok()?),
                None => None,
            },
        }),
        "plain" => SidecarEntry::Plain {
            sha256: words.next()?.parse().ok()?,
            size: words.next()?.parse().ok()?,
        },
        _ => return None,
    };
    words.next().is_none().then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;

    fn samples() -> Vec<Sidecar> {
        let old = Stamp::new(1_700_000_000_000_000_001, b"old", Format::Sql);
        let new = Stamp::new(1_700_000_000_000_000_002, b"new!", Format::Hcl);
        let signed = |stamp: Stamp| SignedStamp {
            stamp,
            mac: Some(Sha256::of(b"signature")),
        };
        let plain = SidecarEntry::Plain {
            sha256: Sha256::of(b"by hand"),
            size: 7,
        };
        vec![
            Sidecar::new(None, new.into()),
            Sidecar::new(Some(SidecarEntry::Stamped(old.into())), new.into()),
            Sidecar::new(Some(SidecarEntry::Stamped(signed(old))), signed(new)),
            Sidecar::new(Some(plain), new.into()),
            Sidecar::new(
                Some(SidecarEntry::Stamped(signed(Stamp {
                    base: Base::Deleted(old.sha256),
                    ..old
                }))),
                signed(Stamp {
                    base: Base::Content(old.sha256),
                    ..new
                }),
            ),
        ]
    }

    #[test]
    fn a_sidecar_survives_its_text_form() {
        for sidecar in samples() {
            assert_eq!(Sidecar::parse(sidecar.to_text().as_bytes()), Ok(sidecar));
        }
    }

    #[test]
    fn author_and_status_survive_in_a_sidecar() {
        let stamp = Stamp {
            author: "Zoë <z@x.org>".parse().ok(),
            ..Stamp::new(7, b"x", Format::Hcl)
        };
        let based = Stamp {
            base: Base::New,
            ..stamp
        };
        let mac = Some(Sha256::of(b"signature"));
        let pending = Stamp {
            status: PlanStatus::Pending,
            author: None,
            ..stamp
        };
        let both = SignedStamp {
            stamp: Stamp {
                author: stamp.author,
                ..pending
            },
            mac,
        };
        for signed in [stamp.into(), based.into(), pending.into(), both] {
            let text = Sidecar::new(None, signed).to_text();
            let read = Sidecar::parse(text.as_bytes()).unwrap().newest();
            assert_eq!((read, read.stamp.author), (signed, signed.stamp.author));
        }
    }

    #[test]
    fn a_sidecar_finds_the_entry_of_either_content() {
        let sidecar = &samples()[1];
        let old = sidecar.by_hash(Sha256::of(b"old"), 3).unwrap();
        assert_eq!(sidecar.by_time(1_700_000_000_000_000_001, 3), Some(old));
        let new = sidecar.by_hash(Sha256::of(b"new!"), 4).unwrap();
        assert_eq!(sidecar.by_time(1_700_000_000_000_000_002, 4), Some(new));
        assert_eq!(sidecar.by_hash(Sha256::of(b"other"), 5), None);
        assert_eq!(sidecar.by_time(1_700_000_000_000_000_002, 3), None);
    }

    #[test]
    fn any_single_byte_changed_cut_or_added_makes_it_unreadable() {
        let text = samples()[4].to_text();
        for index in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[index] ^= 1 << bit;
                assert_eq!(Sidecar::parse(&bytes), Err(SidecarError), "{index} {bit}");
            }
            assert_eq!(Sidecar::parse(&text.as_bytes()[..index]), Err(SidecarError));
        }
        assert!(Sidecar::parse(format!("{text}\n").as_bytes()).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        // A fixed xorshift: the same bytes in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let words = ["stamp", "plain", "sum", " ", "\n", HEADER, "é", "0", "\0"];
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..next() % 12 {
                match next() % 3 {
                    0 => bytes.push(next() as u8),
                    _ => bytes.extend(words[(next() % words.len() as u64) as usize].bytes()),
                }
            }
            assert_eq!(Sidecar::parse(&bytes), Err(SidecarError));
        }
    }
}
