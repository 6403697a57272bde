//! Folders that ignore the case of names, as on vfat, SMB or APFS: there, `app` and `App` are one
//! repository, and a push to one would overwrite the other.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// How many names of a folder are tried. A folder that can be written to has atlasfs's own, so one
/// would do; others are tried where that can't be made.
const TRIED: usize = 16;

/// Tells whether a folder with these names ignores their case: it then finds a name that it
/// doesn't list.
pub(super) fn is_ignored(names: &[OsString], own: &str, finds: impl Fn(&OsStr) -> bool) -> bool {
    let is_own = |name: &&OsString| name.eq_ignore_ascii_case(own);
    let own = names.iter().filter(is_own);
    let others = names.iter().filter(|name| !is_own(name));
    own.chain(others).take(TRIED).any(|name| {
        let turned = turned(name);
        turned != *name && !names.contains(&turned) && finds(&turned)
    })
}

/// Returns a name with its letters in the other case.
fn turned(name: &OsStr) -> OsString {
    let turn = |byte: &u8| match byte.is_ascii_lowercase() {
        true => byte.to_ascii_uppercase(),
        false => byte.to_ascii_lowercase(),
    };
    OsString::from_vec(name.as_bytes().iter().map(turn).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(names: &[&str], found: &[&str], folds: bool) -> bool {
        let names: Vec<OsString> = names.iter().map(OsString::from).collect();
        is_ignored(&names, ".atlasfs", |name| {
            let same = |known: &&&str| match folds {
                true => name.eq_ignore_ascii_case(known),
                false => name == **known,
            };
            found.iter().find(same).is_some()
        })
    }

    #[test]
    fn a_folder_that_finds_another_case_ignores_case() {
        for names in [&[".atlasfs"][..], &[".ATLASFS"], &["lost+found", "App"]] {
            assert!(ignored(names, names, true), "{names:?}");
            assert!(!ignored(names, names, false), "{names:?}");
        }
    }

    #[test]
    fn two_cases_of_one_name_are_two_names() {
        let names = ["app", "APP", "1"];
        assert!(!ignored(&names, &names, false));
        assert!(!ignored(&[], &[], true));
    }

    #[test]
    fn own_name_is_tried_however_many_others_there_are() {
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
        names.push(".atlasfs");
        assert!(ignored(&names, &names, true));
    }
}
