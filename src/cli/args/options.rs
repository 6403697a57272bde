//! The forms in which mount(8) calls its helpers, and its options: `-o key=value,…`, each the flag
//! of that name. Both become the command line of `atlasfs mount`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A command line after translation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translated {
    /// The command line.
    pub(super) argv: Vec<OsString>,
    /// Unknown mount options are dropped.
    pub(super) sloppy: bool,
    /// Only check the command line, and mount nothing (`-f`).
    pub(super) fake: bool,
}

/// Sources that name no registry: the options name it.
const EMPTY_SOURCES: [&str; 2] = ["none", "atlasfs"];

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
    EMPTY_SOURCES.iter().any(|none| word == *none)
        || word.to_str().is_some_and(|word| word.contains("://"))
}

fn is_word_of(word: &OsStr, prefix: &str) -> bool {
    word.as_encoded_bytes().starts_with(prefix.as_bytes())
}

/// Returns the first words of a mount of this source.
fn mount(source: &OsStr) -> impl Iterator<Item = OsString> + use<> {
    let mut words = vec![OsString::from("atlasfs"), OsString::from("mount")];
    if !EMPTY_SOURCES.iter().any(|none| source == *none) {
        words.push("--registry".into());
        words.push(source.to_owned());
    }
    words.into_iter()
}

/// `mount.atlasfs SOURCE DIR [-sfnv] [-N namespace] [-o options] [-t type]`.
fn from_mount(argv: Vec<OsString>) -> Result<Translated, String> {
    let usage = "usage: mount.atlasfs SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE]";
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

/// A flag of `mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// Its long name.
    pub(super) name: String,
    /// Its one-letter name.
    pub(super) short: Option<char>,
    /// It takes a value.
    pub(super) takes_value: bool,
}

/// Options for mount(8) and fstab(5) themselves, or without an effect here. `nosuid` and `nodev`
/// always apply, so their opposites are accepted and change nothing.
const IGNORED_OPTIONS: [&str; 37] = [
    "async",
    "atime",
    "auto",
    "comment",
    "default_permissions",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "fsname",
    "group",
    "lazytime",
    "loud",
    "mand",
    "_netdev",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "noexec",
    "nofail",
    "nolazytime",
    "nomand",
    "norelatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "rw",
    "silent",
    "strictatime",
    "subtype",
    "suid",
    "sync",
    "user",
    "users",
];

/// Replaces `-o` options by the flags. Unknown options are errors; with `sloppy`, they are dropped.
pub(super) fn expand(
    argv: Vec<OsString>,
    flags: &[Flag],
    sloppy: bool,
) -> Result<Vec<OsString>, String> {
    let mut out = Vec::with_capacity(argv.len());
    let mut rest = argv.into_iter();
    while let Some(token) = rest.next() {
        let Some(text) = token.to_str() else {
            out.push(token);
            continue;
        };
        if text == "--" {
            out.push(token);
            out.extend(rest);
            break;
        }
        if let Some(list) = option_list(text) {
            let (before, list) = list;
            if let Some(before) = before {
                out.push(before.into());
            }
            let list = match list {
                Some(list) => list.to_owned(),
                None => rest
                    .next()
                    .ok_or("-o needs KEY=VALUE,…")?
                    .into_string()
                    .map_err(|_| "-o needs KEY=VALUE,… in UTF-8")?,
            };
            for item in split(&list) {
                out.extend(flag_of(&item, flags, sloppy)?.map(OsString::from));
            }
            continue;
        }
        let waits_for_value = flags
            .iter()
            .any(|flag| flag.takes_value && is_flag(text, flag));
        out.push(token);
        if waits_for_value {
            out.extend(rest.next());
        }
    }
    Ok(out)
}

/// Tells whether a word is this flag with its value in the next word.
fn is_flag(word: &str, flag: &Flag) -> bool {
    match word.strip_prefix("--") {
        Some(long) => long == flag.name,
        None => word
            .strip_prefix('-')
            .is_some_and(|short| flag.short.is_some_and(|c| short == c.to_string())),
    }
}

/// If a word holds `-o`, returns the switches before it, and its list unless the next word is the
/// list.
fn option_list(word: &str) -> Option<(Option<String>, Option<&str>)> {
    let letters = word.strip_prefix('-').filter(|w| !w.starts_with('-'))?;
    let (before, list) = letters.split_once('o')?;
    // Only switches may come before it; otherwise it is a letter of another flag's value.
    if !before.chars().all(|c| c == 'f') {
        return None;
    }
    let before = (!before.is_empty()).then(|| format!("-{before}"));
    Some((before, (!list.is_empty()).then_some(list)))
}

/// Splits at commas; `\,` is a comma that doesn't split.
fn split(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match c {
            ',' => {
                items.push(String::new());
                continue;
            }
            '\\' => match chars.next_if(|next| matches!(next, ',' | '\\')) {
                Some(escaped) => escaped,
                None => c,
            },
            c => c,
        };
        if let Some(last) = items.last_mut() {
            last.push(c);
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

fn flag_of(item: &str, flags: &[Flag], sloppy: bool) -> Result<Option<String>, String> {
    let (key, value) = match item.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (item, None),
    };
    if key == "ro" {
        return Ok(Some("--read-only".to_owned()));
    }
    if IGNORED_OPTIONS.contains(&key) || key.starts_with("x-") || key.starts_with("X-") {
        return Ok(None);
    }
    let name = key.replace('_', "-");
    let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
        if sloppy {
            return Ok(None);
        }
        let known: Vec<_> = flags.iter().map(|flag| flag.name.as_str()).collect();
        return Err(format!(
            "unknown mount option `{key}`: write one of {}, or an option of mount(8)",
            known.join(", ")
        ));
    };
    match (flag.takes_value, value) {
        (true, Some(value)) => Ok(Some(format!("--{name}={value}"))),
        (false, None) => Ok(Some(format!("--{name}"))),
        (true, None) => Err(format!("mount option `{key}` needs a value: {key}=…")),
        (false, Some(_)) => Err(format!("mount option `{key}` takes no value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> String {
        let argv = line.split(' ').map(OsString::from).collect();
        translate(argv)
            .unwrap()
            .argv
            .join(OsStr::new(" "))
            .into_string()
            .unwrap()
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
    fn a_helper_call_that_makes_no_sense_is_refused() {
        for line in [
            "mount.atlasfs a",
            "mount.atlasfs a b c",
            "mount.atlasfs a b -q",
        ] {
            let argv = line.split(' ').map(OsString::from).collect();
            assert!(translate(argv).unwrap_err().contains("SOURCE DIR"));
        }
    }

    fn flags() -> Vec<Flag> {
        [
            ("ttl", None, true),
            ("env", Some('e'), true),
            ("read-only", None, false),
        ]
        .map(|(name, short, takes_value)| Flag {
            name: name.to_owned(),
            short,
            takes_value,
        })
        .to_vec()
    }

    fn expanded(line: &str) -> Result<String, String> {
        let argv = line.split(' ').map(OsString::from).collect();
        let out = expand(argv, &flags(), false)?;
        Ok(out.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn options_take_the_place_of_their_flags() {
        assert_eq!(
            expanded("atlasfs mount -o ttl=1s,ro -fottl=2s -o read_only /mnt").unwrap(),
            "atlasfs mount --ttl=1s --read-only -f --ttl=2s --read-only /mnt"
        );
    }

    #[test]
    fn a_value_that_looks_like_an_option_is_left_alone() {
        assert_eq!(
            expanded("atlasfs mount --env -o -e -o -- -o").unwrap(),
            "atlasfs mount --env -o -e -o -- -o"
        );
    }

    #[test]
    fn commas_can_be_escaped() {
        assert_eq!(split(r"a=1\,2,,b=\\,c\d"), ["a=1,2", r"b=\", r"c\d"]);
        assert!(split("").is_empty());
    }

    #[test]
    fn an_option_without_its_value_or_with_one_too_many_is_refused() {
        let error = expanded("atlasfs mount -o ttl /mnt").unwrap_err();
        assert_eq!(error, "mount option `ttl` needs a value: ttl=…");
        let error = expanded("atlasfs mount -o read-only=1 /mnt").unwrap_err();
        assert_eq!(error, "mount option `read-only` takes no value");
        assert!(expanded("atlasfs mount -o").is_err());
    }
}
