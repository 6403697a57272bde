//! The ways in which mount(8) calls its helpers, turned into `atlasfs mount`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A command line after translation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translated {
    /// The command line.
    pub(super) argv: Vec<OsString>,
    /// Unknown mount options are dropped.
    pub(super) sloppy: bool,
    /// Nothing is to be done.
    pub(super) fake: bool,
}

/// Sources that say nothing: what to mount is among the options.
const NO_SOURCE: [&str; 2] = ["none", "atlasfs"];

/// Translates `mount.atlasfs SOURCE DIR …` and `atlasfs SOURCE DIR …`; leaves the rest as it is.
pub(super) fn translate(argv: Vec<OsString>) -> Result<Translated, String> {
    let name = argv.first().map(Path::new).and_then(Path::file_name);
    if name == Some(OsStr::new("mount.atlasfs")) {
        return from_mount(argv);
    }
    let argv = match argv.as_slice() {
        [_, first, second, ..] if is_source(first) && !is_word_of(second, "-") => {
            let mut rest = argv.into_iter().skip(1);
            let source = rest.next().unwrap_or_default();
            mount(&source).chain(rest).collect()
        }
        _ => argv,
    };
    Ok(Translated {
        argv,
        sloppy: false,
        fake: false,
    })
}

fn is_source(word: &OsStr) -> bool {
    NO_SOURCE.iter().any(|none| word == *none)
        || word.to_str().is_some_and(|word| word.contains("://"))
}

fn is_word_of(word: &OsStr, prefix: &str) -> bool {
    word.as_encoded_bytes().starts_with(prefix.as_bytes())
}

/// The first words of a mount of this source.
fn mount(source: &OsStr) -> impl Iterator<Item = OsString> + use<> {
    let mut words = vec![OsString::from("atlasfs"), OsString::from("mount")];
    if !NO_SOURCE.iter().any(|none| source == *none) {
        words.push("--registry".into());
        words.push(source.to_owned());
    }
    words.into_iter()
}

/// `mount.atlasfs SOURCE DIR [-sfnv] [-N namespace] [-o options] [-t type]`.
fn from_mount(argv: Vec<OsString>) -> Result<Translated, String> {
    let usage = "mount.atlasfs wants SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE]";
    let (mut sloppy, mut fake) = (false, false);
    let mut places = Vec::new();
    let mut options = Vec::new();
    let mut words = argv.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-o") => options.extend([word, words.next().ok_or(usage)?]),
            Some("-t" | "-N") => {
                words.next().ok_or(usage)?;
            }
            Some(switches) if switches.starts_with('-') => {
                for letter in switches.chars().skip(1) {
                    match letter {
                        's' => sloppy = true,
                        'f' => fake = true,
                        'n' | 'v' => {}
                        _ => return Err(format!("unknown switch `-{letter}`: {usage}")),
                    }
                }
            }
            _ => places.push(word),
        }
    }
    let [source, dir] = <[OsString; 2]>::try_from(places).map_err(|_| usage)?;
    let argv = mount(&source)
        .chain(options)
        .chain(["--".into(), dir])
        .collect();
    Ok(Translated { argv, sloppy, fake })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> String {
        let argv = line.split(' ').map(OsString::from).collect();
        translate(argv)
            .unwrap()
            .argv
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_helper_call_becomes_a_mount() {
        assert_eq!(
            translated("/usr/sbin/mount.atlasfs s3://b /mnt -n -o rw,x=1 -t fuse.atlasfs"),
            "atlasfs mount --registry s3://b -o rw,x=1 -- /mnt"
        );
        assert_eq!(
            translated("mount.atlasfs none /mnt"),
            "atlasfs mount -- /mnt"
        );
    }

    #[test]
    fn commands_are_left_as_they_are() {
        for line in [
            "atlasfs",
            "atlasfs mount /mnt -f",
            "atlasfs status /mnt",
            "atlasfs umount /mnt /mnt2",
            "atlasfs --help",
            "atlasfs typo /mnt",
        ] {
            assert_eq!(translated(line), line);
        }
    }

    #[test]
    fn a_helper_call_that_makes_no_sense_is_told() {
        for line in [
            "mount.atlasfs a",
            "mount.atlasfs a b c",
            "mount.atlasfs a b -q",
        ] {
            let argv = line.split(' ').map(OsString::from).collect();
            assert!(translate(argv).unwrap_err().contains("SOURCE DIR"));
        }
    }
}
