//! Tests of key files and signatures.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::{Base, Format, PlanStatus};

const KEY: &str = "abababababababababababababababababababababababababababababababab";
const OTHER: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

fn keys(text: &str) -> StampKeys {
    StampKeys::parse(text).unwrap()
}

fn stamp() -> Stamp {
    Stamp {
        base: Base::New,
        ..Stamp::new(1_725_989_864_000_000_001, b"x", Format::Hcl)
    }
}

fn refusal(text: &str, mode: u32) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let read = StampKeys::read(&path);
    let told = read.err().map(|error| error.to_string());
    let private = text.lines().filter(|line| line.len() > 8);
    for line in private {
        let shows = |told: &String| told.contains(line);
        assert!(!told.as_ref().is_some_and(shows), "{told:?}");
    }
    told
}

#[test]
fn a_signature_is_the_published_hmac_sha_256() {
    // RFC 4231, test case 6.
    let mut state = key_of(&"aa".repeat(131)).unwrap().state;
    state.update(b"Test Using Larger Than Block-Size Key - Hash Key First");
    let mac: [u8; 32] = state.finalize().into_bytes().into();
    let published = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
    assert_eq!(Sha256::from(mac).to_string(), published);
}

#[test]
fn the_signed_text_stays_the_same_in_every_version() {
    let signed = keys(KEY).sign("app/schema", &stamp());
    let mac = "cb2209590e888d8dda492f2efafd0fb25a4b6f71bbef519b274b499d2ddc3ff3";
    assert_eq!(signed.mac.unwrap().to_string(), mac);
    assert_eq!(keys(KEY).signing().as_str(), "d04a825506458b8f");
}

#[test]
fn a_signature_holds_for_this_stamp_of_this_object_alone() {
    let keys = keys(KEY);
    let signed = keys.sign("app/schema", &stamp());
    assert!(keys.has_signed("app/schema", &signed));
    assert!(!keys.has_signed("app2/schema", &signed));
    assert!(!keys.has_signed("app/schema", &stamp().into()));
    for stamp in [
        Stamp {
            when: stamp().when + 1,
            ..stamp()
        },
        Stamp {
            sha256: Sha256::of(b"y"),
            ..stamp()
        },
        Stamp { size: 2, ..stamp() },
        Stamp {
            format: Format::Sql,
            ..stamp()
        },
        Stamp {
            base: Base::Unknown,
            ..stamp()
        },
        by("alice"),
    ] {
        let forged = SignedStamp { stamp, ..signed };
        assert!(!keys.has_signed("app/schema", &forged), "{stamp:?}");
    }
}

fn by(author: &str) -> Stamp {
    Stamp {
        author: author.parse().ok(),
        ..stamp()
    }
}

#[test]
fn a_status_can_not_be_changed() {
    let keys = keys(KEY);
    for stamp in [stamp(), by("alice")] {
        let statuses = [PlanStatus::Approved, PlanStatus::Pending];
        let [approved, pending] = statuses.map(|status| Stamp { status, ..stamp });
        for (signed, other) in [(approved, pending), (pending, approved)] {
            let signed = keys.sign("app/plans/p", &signed);
            assert!(keys.has_signed("app/plans/p", &signed));
            let forged = SignedStamp {
                stamp: other,
                ..signed
            };
            assert!(!keys.has_signed("app/plans/p", &forged), "{other:?}");
        }
    }
}

#[test]
fn an_author_can_not_be_changed_or_removed() {
    let keys = keys(KEY);
    let signed = keys.sign("app/schema", &by("alice"));
    assert!(keys.has_signed("app/schema", &signed));
    let mac = "045db6559521e1a7fec946c3af31f66b62e0a402fa260c068e815b4dd3ad1731";
    assert_eq!(signed.mac.unwrap().to_string(), mac);
    for stamp in [stamp(), by("bob"), by("alice2")] {
        let forged = SignedStamp { stamp, ..signed };
        assert!(!keys.has_signed("app/schema", &forged), "{stamp:?}");
    }
}

#[test]
fn keys_change_one_after_the_other() {
    let [old, adding, swapped, new] = [
        KEY.to_owned(),
        format!("{KEY}\n{OTHER}"),
        format!("# new\n{OTHER}\n\n# old\n{KEY}\n"),
        OTHER.to_owned(),
    ]
    .map(|text| keys(&text));
    let by_old = adding.sign("app/schema", &stamp());
    let by_new = swapped.sign("app/schema", &stamp());
    assert_eq!(by_old, old.sign("app/schema", &stamp()));
    assert_ne!(by_old, by_new);
    for (keys, believes) in [
        (&old, (true, false)),
        (&adding, (true, true)),
        (&swapped, (true, true)),
        (&new, (false, true)),
    ] {
        let believed = [by_old, by_new].map(|signed| keys.has_signed("app/schema", &signed));
        assert_eq!((believed[0], believed[1]), believes, "{keys:?}");
    }
}

#[test]
fn a_key_file_is_private_and_holds_one_or_two_keys() {
    for good in [
        KEY.to_owned(),
        format!("# a comment\n\n {KEY} \r\n{OTHER}\n"),
        "AB".repeat(64),
    ] {
        for mode in [0o600, 0o400] {
            assert_eq!(refusal(&good, mode), None, "{good}");
        }
    }
    for (text, mode, why) in [
        ("", 0o600, "it holds no key: make a key with: openssl"),
        ("# only a comment\n", 0o600, "it holds no key"),
        (&KEY[2..], 0o600, "line 1 is not 64 or more hexadecimal"),
        (&format!("#\n{KEY}0"), 0o600, "line 2 is not"),
        (&format!("{KEY}\n{}", "xy".repeat(32)), 0o600, "line 2 is"),
        (&format!("{KEY} {OTHER}"), 0o600, "line 1 is not"),
        (&format!("{KEY}\n{OTHER}\n{KEY}"), 0o600, "more than two"),
        (KEY, 0o640, "(mode 640): chmod 600 it"),
        (KEY, 0o604, "(mode 604): chmod 600 it"),
        (KEY, 0o620, "(mode 620): chmod 600 it"),
    ] {
        let told = refusal(text, mode).expect(text);
        assert!(told.contains(why), "{told}");
        assert!(told.starts_with("can't use the stamp key /"), "{told}");
    }
    let missing = StampKeys::read(Path::new("/nonexistent/key")).unwrap_err();
    assert!(missing.to_string().contains("No such file"), "{missing}");
    let folder = StampKeys::read(Path::new("/")).unwrap_err().to_string();
    assert!(folder.contains("not a regular file"), "{folder}");
}

#[test]
fn no_message_shows_a_key() {
    let shown = format!("{:?}", keys(&format!("{KEY}\n{OTHER}")));
    assert!(shown.contains(keys(OTHER).signing().as_str()), "{shown}");
    assert!(!shown.contains(KEY) && !shown.contains("abab"), "{shown}");
}
