//! Folders that other users can write to, and unusable folders: as stores and for the state.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Generation, INodeNo, ReplyAttr, ReplyDirectory,
    ReplyEntry, Request, Session, SessionACL,
};

use super::home::Home;
use super::mounted::is_mounted;
use super::program::{Running, bash, run, start, until};
use super::store::{Store, flags, folders, plan, schema};

/// A disk with case-insensitive names, such as vfat, with a store on it.
struct Caseless(HashMap<u64, Vec<(&'static str, u64)>>);

impl Caseless {
    fn attr(ino: INodeNo) -> FileAttr {
        FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o755,
            nlink: 2,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl fuser::Filesystem for Caseless {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let names = self.0.get(&parent.0).into_iter().flatten();
        match names
            .into_iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
        {
            Some((_, ino)) => {
                let attr = Self::attr(INodeNo(*ino));
                reply.entry(&Duration::ZERO, &attr, Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &Self::attr(ino));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = self.0.get(&ino.0).into_iter().flatten().enumerate();
        for (place, (name, child)) in names.skip(offset as usize) {
            let next = place as u64 + 1;
            if reply.add(INodeNo(*child), next, FileType::Directory, name) {
                break;
            }
        }
        reply.ok();
    }
}

/// A mounted disk. Dropping it unmounts the disk.
struct Disk(PathBuf);

impl Disk {
    fn mount(dir: PathBuf) -> Self {
        let device = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let flags = nix::mount::MsFlags::MS_NOSUID;
        let kind = Some("fuse.caseless");
        nix::mount::mount(kind, &dir, kind, flags, Some(data.as_str())).unwrap();
        let tree = HashMap::from([
            (1, vec![(".atlasfs", 2), ("app", 5)]),
            (2, vec![("tmp", 3), ("stamps", 4)]),
        ]);
        let config = Config::default();
        let session = Session::from_fd(Caseless(tree), device.into(), SessionACL::All, config);
        let session = session.unwrap();
        std::thread::spawn(move || session.run());
        Self(dir)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_folder_that_ignores_case_is_refused_when_mounting() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    let disk = Disk::mount(home.folder("disk"));
    let url = format!("file://{}", disk.0.display());
    for args in [
        ["--registry", &url, "--backup", &home.url("other")],
        ["--registry", &home.url("other"), "--backup", &url],
    ] {
        let ran = run(&mut home.mounting("mnt", args)).fails(1, &url);
        ran.says("ignores the case of names").says("App");
        assert!(!is_mounted(&home.path("mnt")));
    }
}

/// Stops a process at the moment when it holds the lock of a folder.
fn stopped_holder(folder: &Path) -> Running {
    let lock = folder.join(".atlasfs/lock");
    let script = r#"exec 9<>"$1"; flock 9; kill -STOP $$"#;
    let holder = start(&mut bash(script, [&lock]));
    let stopped = || super::mounted::state(holder.pid()) == Some('T');
    until("the holder has stopped", || stopped().then_some(()));
    holder
}

#[test]
fn a_stopped_holder_of_a_lock_is_named_and_costs_one_deadline() {
    let home = Home::new();
    let stores = folders(&home);
    let mut args = flags(&stores);
    args.extend(["--push-timeout", "2s", "--breaker", "0"].map(String::from));
    let mounted = home.mount("mnt", args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    let holder = stopped_holder(&home.path("backup-1"));
    let begun = std::time::Instant::now();
    mounted.cp("app/schema", schema("one")).ok();
    // A limit for slow machines: without a deadline this would never end.
    assert!(begun.elapsed() < Duration::from_secs(30));
    let name = format!("process {} (bash)", holder.pid());
    let status = mounted.status().to_string();
    assert!(status.contains(&name), "{name}: {status}");
    assert!(status.contains("stopped"), "{status}");
    drop(holder);
    until("the backup has it", || {
        let there = std::fs::read(home.path("backup-1/app/schema")).ok();
        there.filter(|there| there == schema("one").as_bytes())
    });
    mounted.unmount();
}

#[test]
fn a_fifo_for_a_stamp_keeps_no_mount_from_pushing() {
    let home = Home::new();
    let (registry, backup) = (home.url("registry"), home.url("shared"));
    let stores = ["--registry", &*registry, "--backup", &*backup];
    let (one, two) = (home.mount("one", stores), home.mount("two", stores));
    std::fs::create_dir(one.path("app")).unwrap();
    std::fs::create_dir(two.path("other")).unwrap();
    one.cp("app/schema", schema("first")).ok();
    let stamp = home.path("shared/.atlasfs/stamps/app/schema");
    std::fs::remove_file(&stamp).unwrap();
    nix::unistd::mkfifo(&stamp, nix::sys::stat::Mode::S_IRWXU).unwrap();
    one.cp("app/schema", schema("second")).ok();
    two.cp("other/schema", schema("other")).ok();
    for (key, content) in [("app", "second"), ("other", "other")] {
        let there = std::fs::read(home.path(&format!("shared/{key}/schema")));
        assert_eq!(there.unwrap(), schema(content).as_bytes());
    }
    one.unmount();
    two.unmount();
}

#[test]
fn mounting_touches_nothing_behind_links_in_a_store() {
    let home = Home::new();
    for name in ["tmp", "stamps"] {
        home.file("victim/1-2-3.c", "precious");
        home.file("victim/app/schema", "precious");
        let own = home.folder(&format!("backup-of-{name}/.atlasfs"));
        std::os::unix::fs::symlink(home.path("victim"), own.join(name)).unwrap();
        let registry = home.url(&format!("registry-of-{name}"));
        let backup = home.url(&format!("backup-of-{name}"));
        let mounted = home.mount(name, ["--registry", &registry, "--backup", &backup]);
        let status = mounted.status().to_string();
        assert!(status.contains("symbolic link"), "{status}");
        std::fs::create_dir(mounted.path("app")).unwrap();
        mounted.cp("app/plans/p1", plan("p1", name)).ok();
        for file in ["victim/1-2-3.c", "victim/app/schema"] {
            assert_eq!(std::fs::read(home.path(file)).unwrap(), b"precious");
        }
        assert_eq!(std::fs::read_dir(home.path("victim")).unwrap().count(), 2);
        mounted.unmount();
    }
}

#[test]
fn state_and_embedded_registry_are_private_whatever_the_umask() {
    let home = Home::new();
    let backup = home.url("backup");
    let mut without_umask = Command::new("sh");
    let mounting = home.mounting("mnt", ["--backup", &backup]);
    without_umask.args(["-c", r#"umask 0; exec "$@""#, "sh"]);
    without_umask
        .arg(mounting.get_program())
        .args(mounting.get_args());
    home.enter(&mut without_umask);
    let (mounted, _) = home.mount_by("mnt", &mut without_umask);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("one")).ok();
    let open = run(&mut bash(
        r#"find "$1/state/atlasfs" "$1/data/atlasfs" -perm /077 2>&1"#,
        [home.dir()],
    ));
    assert_eq!(open.text(), "", "open to others");
    assert!(home.path("data/atlasfs/registry/app/schema").exists());
    mounted.unmount();
}

#[test]
fn a_folder_of_the_users_own_is_no_state_directory() {
    let home = Home::new();
    let store = Store::folder(&home, "registry");
    let diary = home.file("diary/journal/monday", "dear diary");
    let state = home.path("diary").display().to_string();
    let args = ["--registry", &store.url(), "--state-dir", &state];
    let ran = run(&mut home.mounting("mnt", args)).fails(1, &state);
    ran.says("journal").says("--state-dir");
    assert_eq!(std::fs::read(&diary).unwrap(), b"dear diary");
    std::fs::remove_dir_all(home.path("diary/journal")).unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&state, open).unwrap();
    run(&mut home.mounting("mnt", args)).fails(1, "chmod 700");
    let own = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&state, own).unwrap();
    home.mount("mnt", args).unmount();
}
