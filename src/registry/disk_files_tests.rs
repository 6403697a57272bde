//! The rules of the disk cache's files, one test each.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

const ROOM: u64 = BLOCK;

fn content(byte: u8) -> (Sha256, Vec<u8>) {
    let content = vec![byte; 100];
    (Sha256::of(&content), content)
}

fn opened(dir: &Path, rooms: u64) -> DiskFiles {
    let files = DiskFiles::new(dir, rooms * ROOM);
    files.open();
    files
}

fn on_disk(files: &DiskFiles) -> usize {
    let dirs = fs::read_dir(&files.dir).unwrap();
    dirs.map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count())
        .sum()
}

#[test]
fn the_disk_cache_is_bounded_and_evicts_by_recent_use() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 2);
    let [a, b, c] = [1, 2, 3].map(content);
    files.insert(a.0, &a.1);
    files.insert(b.0, &b.1);
    assert_eq!(files.get(&a.0).unwrap(), a.1);
    files.insert(c.0, &c.1);
    assert_eq!(files.get(&a.0).unwrap(), a.1);
    assert_eq!(files.get(&b.0), None, "b was used least recently");
    assert_eq!(files.get(&c.0).unwrap(), c.1);
    assert_eq!(on_disk(&files), 2);
    assert_eq!(files.figures(), (2, 2 * ROOM, None));
}

#[test]
fn hundreds_of_contents_never_take_more_than_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 10);
    for n in 0..300_u32 {
        let content = n.to_le_bytes().repeat(1 + n as usize * 10);
        files.insert(Sha256::of(&content), &content);
        assert!(files.figures().1 <= 10 * ROOM);
        assert!(on_disk(&files) <= 10);
    }
}

#[test]
fn content_larger_than_the_bound_is_skipped_and_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 1);
    let small = content(1);
    files.insert(small.0, &small.1);
    let large = vec![2; ROOM as usize + 1];
    files.insert(Sha256::of(&large), &large);
    assert_eq!(files.get(&Sha256::of(&large)), None);
    assert!(files.get(&small.0).is_some());
}

#[test]
fn a_restart_keeps_the_order_and_applies_a_smaller_bound() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 3);
    let [a, b, c] = [1, 2, 3].map(content);
    for (age, (hash, content)) in [(10, &b), (30, &a), (20, &c)] {
        files.insert(*hash, content);
        let time = SystemTime::now() - Duration::from_secs(age);
        let file = File::open(files.path(hash)).unwrap();
        file.set_modified(time).unwrap();
    }
    let files = opened(dir.path(), 2);
    assert_eq!(files.get(&a.0), None, "the oldest");
    assert_eq!(files.get(&b.0).unwrap(), b.1);
    assert_eq!(files.get(&c.0).unwrap(), c.1);
}

#[test]
fn a_read_updates_the_file_time_once_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 3);
    let a = content(1);
    files.insert(a.0, &a.1);
    assert!(!files.touch(&a.0));
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let path = files.path(&a.0);
    File::open(&path).unwrap().set_modified(long_ago).unwrap();
    let files = opened(dir.path(), 3);
    files.get(&a.0).unwrap();
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    assert!(modified.elapsed().unwrap() < Duration::from_secs(60));
    assert!(!files.touch(&a.0));
}

#[test]
fn a_damaged_cached_file_is_a_miss_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 10);
    let (hash, content) = content(1);
    let mut flipped = content.clone();
    flipped[50] ^= 1;
    let mut longer = content.clone();
    longer.push(1);
    for damaged in [&content[..99], &flipped, &longer, b""] {
        files.insert(hash, &content);
        fs::write(files.path(&hash), damaged).unwrap();
        assert_eq!(files.get(&hash), None);
        assert!(!files.path(&hash).exists());
        assert_eq!(files.figures(), (0, 0, None), "it is no trouble");
    }
    files.insert(hash, &content);
    assert_eq!(files.get(&hash).unwrap(), content);
}

#[test]
fn foreign_files_are_neither_served_nor_removed_by_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 10);
    let root = dir.path().join("sha256");
    let (hash, content) = content(1);
    let name = hash.to_string();
    fs::create_dir_all(root.join("zz")).unwrap();
    fs::create_dir_all(root.join("a\nb")).unwrap();
    let foreign = [
        root.join("README"),
        root.join("zz").join("x"),
        root.join("zz").join(&name),
        root.join("a\nb").join(name.to_uppercase()),
        root.join("tmp-young"),
    ];
    for path in &foreign {
        fs::write(path, &content).unwrap();
    }
    let files_again = opened(dir.path(), 10);
    assert_eq!(files_again.figures(), (0, 0, None));
    assert_eq!(files.get(&hash), None);
    assert!(foreign.iter().all(|path| path.exists()));
}

#[test]
fn an_old_temporary_file_of_a_crash_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 10);
    let left = files.dir.join("tmp-left");
    let old = SystemTime::now() - Duration::from_secs(7200);
    File::create(&left).unwrap().set_modified(old).unwrap();
    files.open();
    assert!(!left.exists());
}

#[test]
fn two_mounts_share_the_contents_of_one_disk_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (opened(dir.path(), 4), opened(dir.path(), 4));
    let (a, b) = (content(1), content(2));
    one.insert(a.0, &a.1);
    assert_eq!(other.get(&a.0).unwrap(), a.1);
    other.insert(a.0, &a.1);
    other.insert(b.0, &b.1);
    fs::remove_file(other.path(&a.0)).unwrap();
    assert_eq!(one.get(&a.0), None, "the other has removed it");
    assert_eq!(one.get(&b.0).unwrap(), b.1);
    for n in 10..60 {
        let (hash, content) = content(n);
        [&one, &other][usize::from(n % 2)].insert(hash, &content);
        assert!(on_disk(&one) <= 5, "both count what there is");
    }
}

#[test]
fn two_mounts_can_use_one_disk_cache_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let files = opened(dir.path(), 5);
                for round in 0..200_u32 {
                    let (hash, content) = content((round % 8) as u8);
                    files.insert(hash, &content);
                    if let Some(read) = files.get(&hash) {
                        assert_eq!(read, content);
                    }
                }
                assert_eq!(files.figures().2, None);
            });
        }
    });
}

#[test]
fn an_unusable_cache_directory_is_reported_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let files = opened(&in_the_way, 10);
    let (hash, content) = content(1);
    files.insert(hash, &content);
    assert_eq!(files.get(&hash), None);
    let (entries, bytes, problem) = files.figures();
    assert_eq!((entries, bytes), (0, 0));
    assert!(problem.unwrap().contains("file/sha256"));
}

#[test]
fn a_lost_cache_directory_is_reported_and_not_recreated() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 10);
    let (hash, content) = content(1);
    files.insert(hash, &content);
    fs::remove_dir_all(&files.dir).unwrap();
    assert_eq!(files.get(&hash), None);
    files.insert(hash, &content);
    assert_eq!(files.get(&hash), None);
    assert!(files.figures().2.is_some());
}

#[test]
fn only_the_owner_can_access_the_disk_cache() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("sha256");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
    let files = opened(dir.path(), 10);
    let (hash, content) = content(1);
    files.insert(hash, &content);
    let path = files.path(&hash);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&root), 0o700);
}

#[test]
fn a_directory_with_foreign_files_is_refused_as_a_cache() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("home");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("notes"), "x").unwrap();
    let files = opened(&dir, 10);
    let (hash, content) = content(1);
    files.insert(hash, &content);
    assert_eq!(files.get(&hash), None);
    let problem = files.figures().2.unwrap();
    assert!(problem.contains("notes"), "{problem}");
    assert!(problem.contains("--cache-dir"), "{problem}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn a_directory_writable_by_others_is_refused_as_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let files = opened(dir.path(), 10);
    let (hash, content) = content(1);
    files.insert(hash, &content);
    assert!(files.figures().2.unwrap().contains("chmod 700"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_disk_cache_never_follows_a_link() {
    let (hash, content) = content(1);
    let name = hash.to_string();
    for link in ["sha256", &format!("sha256/{}", &name[..2]), "file"] {
        let temp = tempfile::tempdir().unwrap();
        let (cache, victim) = (temp.path().join("cache"), temp.path().join("victim"));
        drop(opened(&cache, 10));
        fs::create_dir_all(victim.join(&name[..2])).unwrap();
        for file in ["tmp-old", &name, &format!("{}/{name}", &name[..2])] {
            fs::write(victim.join(file), "precious").unwrap();
            let old = SystemTime::now() - Duration::from_secs(7200);
            let file = File::open(victim.join(file)).unwrap();
            file.set_modified(old).unwrap();
        }
        let (place, target) = match link {
            "file" => (cache.join("sha256").join(place(&hash)), victim.join(&name)),
            link => (cache.join(link), victim.clone()),
        };
        let _ = fs::remove_dir(&place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, &place).unwrap();
        let files = opened(&cache, 0);
        assert_eq!(files.get(&hash), None, "{link}");
        drop(files);
        let files = opened(&cache, 10);
        files.insert(hash, &content);
        for file in ["tmp-old", &name, &format!("{}/{name}", &name[..2])] {
            assert_eq!(fs::read(victim.join(file)).unwrap(), b"precious", "{link}");
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 3, "{link}");
    }
}

#[test]
fn a_fifo_or_huge_file_counts_as_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let files = DiskFiles::new(dir.path(), u64::MAX);
    files.open();
    let (hash, content) = content(1);
    files.insert(hash, &content);
    let path = files.path(&hash);
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(files.get(&hash), None);
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap().set_len(UNCHECKED + 1).unwrap();
    assert_eq!(files.get(&hash), None);
    assert!(!path.exists(), "it is damaged, and removed");
}

#[test]
fn the_disk_cache_frees_space_least_recently_used_first() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = [1, 2, 3].map(content);
    let before = opened(dir.path(), 10);
    for (hash, content) in [&a, &b, &c] {
        before.insert(*hash, content);
    }
    before.get(&a.0).unwrap();
    assert!(before.give_way(ROOM + 1));
    assert_eq!(on_disk(&before), 1);
    assert!(before.get(&a.0).is_some(), "a was used last");
    // This cache has not counted its files yet.
    let after = DiskFiles::new(dir.path(), 10 * ROOM);
    assert!(after.give_way(1) && !after.give_way(1));
    assert_eq!(on_disk(&after), 0);
}

#[test]
fn a_path_on_another_disk_is_not_beside_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let files = opened(dir.path(), 1);
    assert!(files.is_beside(dir.path()));
    assert!(!files.is_beside(Path::new("/proc")));
    assert!(!files.is_beside(&dir.path().join("none")));
}
