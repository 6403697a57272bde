//! The state directory: its owner, its content and its permissions.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn refused(path: &Path) -> String {
    let error = StateDir::open(path, "x").unwrap_err();
    assert!(
        matches!(error, StateDirError::Refused { .. }),
        "not refused: {error}"
    );
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(message.contains("--state-dir"), "{message}");
    message
}

#[test]
fn a_second_mount_is_refused_and_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path(), "the mount on /mnt/a, process 7").unwrap();
    let second = StateDir::open(dir.path(), "the mount on /mnt/b").unwrap_err();
    let message = second.to_string();
    assert!(
        message.contains("in use by the mount on /mnt/a, process 7"),
        "{message}"
    );
    assert!(message.contains("--state-dir"), "{message}");
    drop(first);
    StateDir::open(dir.path(), "the mount on /mnt/b").unwrap();
}

#[test]
fn only_the_owner_can_access_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    let _lock = StateDir::open(&state, "").unwrap();
    let made = ["", "staging", "journal", "journal/damaged"].map(|name| state.join(name));
    for path in made.into_iter().chain([dir.path().join("a")]) {
        assert_eq!(mode(&path), 0o700, "{path:?}");
    }
    for name in ["lock", "atlasfs-state"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
}

#[test]
fn open_permissions_are_repaired_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    drop(StateDir::open(&state, "").unwrap());
    let files = [
        "lock",
        "log",
        "catalogue",
        "failures",
        "atlasfs-state",
        "journal/00000000000000000005",
        "journal/damaged/x",
        "staging/scratch-AbC123",
    ];
    for file in files {
        fs::write(state.join(file), "").unwrap();
        fs::set_permissions(state.join(file), Permissions::from_mode(0o664)).unwrap();
    }
    let dirs = ["", "journal", "journal/damaged", "staging"];
    for dir in dirs {
        fs::set_permissions(state.join(dir), Permissions::from_mode(0o755)).unwrap();
    }
    drop(StateDir::open(&state, "").unwrap());
    for file in files {
        assert_eq!(mode(&state.join(file)), 0o600, "{file}");
    }
    for dir in dirs {
        assert_eq!(mode(&state.join(dir)), 0o700, "{dir}");
    }
}

#[test]
fn the_log_is_private_from_its_first_line() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    StateDir::log(&state).unwrap();
    assert_eq!((mode(&state), mode(&state.join("log"))), (0o700, 0o600));
    StateDir::open(&state, "").unwrap();
}

#[test]
fn an_error_names_the_directory_that_cannot_be_made() {
    let error = StateDir::open(Path::new("/dev/null/x"), "").unwrap_err();
    assert!(error.to_string().contains("/dev/null/x"), "{error}");
}

#[test]
fn a_state_directory_writable_by_others_is_refused() {
    for open in [0o777, 0o1777, 0o770, 0o702] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(open)).unwrap();
        assert!(refused(dir.path()).contains("chmod 700"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_state_directory_of_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
    assert!(refused(dir.path()).contains("user 65534"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_with_foreign_files_is_refused_and_left_unchanged() {
    for (path, content) in [
        ("journal/monday", "dear diary"),
        ("journal/draft.tmp", "dear diary"),
        ("journal/2026/x", "dear diary"),
        ("staging/z", "y"),
        ("catalogue", "cat"),
        ("lock", "mine"),
        ("log", "of the ship"),
        ("cache/firefox", "x"),
        ("notes.txt", "x"),
        (".bashrc", "x"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        let before = mode(&file);
        let first = path.split('/').next().unwrap();
        assert!(refused(dir.path()).contains(first), "{path}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
        assert_eq!(mode(&file), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{path}");
    }
}

#[test]
fn a_state_directory_of_an_earlier_version_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    for made in [
        "journal/damaged",
        "staging",
        "cache/sha256/ab",
        "lost+found",
    ] {
        fs::create_dir_all(dir.path().join(made)).unwrap();
    }
    for (path, content) in [
        ("lock", "the mount on /mnt (process 7)\n"),
        ("log", "2026-01-02T03:04:05Z  INFO atlasfs\n"),
        ("catalogue", "0123456789abcdef {\"registry\":\"x\"}\n"),
        ("catalogue.damaged", "?"),
        ("failures", "\0\0\0\0"),
        ("journal/00000000000000000005", "?"),
        ("journal/00000000000000000006.tmp", "?"),
        ("staging/scratch-AbC123", "?"),
    ] {
        fs::write(dir.path().join(path), content).unwrap();
    }
    drop(StateDir::open(dir.path(), "x").unwrap());
    assert!(dir.path().join("atlasfs-state").exists());
    // From then on, other files in the directory belong to the user and are left alone.
    fs::write(dir.path().join("notes"), "x").unwrap();
    drop(StateDir::open(dir.path(), "x").unwrap());
    assert!(dir.path().join("notes").exists());
}

#[test]
fn links_in_place_of_state_files_are_refused() {
    for name in [
        "lock",
        "log",
        "catalogue",
        "failures",
        "journal",
        "staging",
        "cache",
        "journal/damaged",
    ] {
        let temp = tempfile::tempdir().unwrap();
        let (state, victim) = (temp.path().join("state"), temp.path().join("victim"));
        drop(StateDir::open(&state, "x").unwrap());
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("x.tmp"), "precious").unwrap();
        let place = state.join(name);
        let _ = fs::remove_file(&place);
        let _ = fs::remove_dir_all(&place);
        let target = match name {
            "lock" | "log" | "catalogue" | "failures" => victim.join("x.tmp"),
            _ => victim.clone(),
        };
        symlink(&target, &place).unwrap();
        assert!(refused(&state).contains(name), "{name}");
        assert!(StateDir::log(&state).is_err(), "{name}");
        fs::remove_file(&place).unwrap();
        if fs::hard_link(&target, &place).is_ok() {
            assert!(refused(&state).contains(name), "a hard link: {name}");
        }
        let _ = fs::remove_file(&place);
        nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused(&state).contains(name), "a fifo: {name}");
        assert_eq!(fs::read(victim.join("x.tmp")).unwrap(), b"precious");
        assert_eq!(mode(&victim.join("x.tmp")) & 0o044, 0o044, "{name}");
    }
}

#[test]
fn a_link_to_the_state_directory_is_followed() {
    let temp = tempfile::tempdir().unwrap();
    let (state, link) = (temp.path().join("state"), temp.path().join("link"));
    fs::create_dir(&state).unwrap();
    symlink(&state, &link).unwrap();
    drop(StateDir::open(&link, "x").unwrap());
    assert!(state.join("lock").exists());
}

#[test]
fn mount_points_have_different_folders() {
    assert_eq!(
        log_folder(Path::new("/mnt/registry")),
        Path::new("mounts/mnt-registry")
    );
    assert_eq!(
        log_folder(Path::new("/mnt-registry")),
        Path::new("mounts/mnt%2dregistry")
    );
    assert_eq!(log_folder(Path::new("/é")), Path::new("mounts/%c3%a9"));
}
