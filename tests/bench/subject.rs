//! A subject: a file system that stays mounted as long as this value lives.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clock::{Cpu, on};
use super::place::Place;
use super::row::{ATLASFS, NOOP};
use super::space::Space;
use super::support::server::{ACCESS_KEY, SECRET_KEY};

/// The longest time for a mount to appear.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A mounted file system.
#[derive(Debug)]
pub struct Subject {
    pub name: String,
    /// The mount command, for the report.
    pub shown: String,
    /// The store's endpoint; the no-op has none.
    pub place: Option<Place>,
    dir: PathBuf,
    pid: i32,
    child: Option<Child>,
}

impl Subject {
    /// Mounts the no-op file system with so many plans.
    pub fn noop(space: &Space, plans: usize) -> Self {
        let dir = space.folder("noop");
        let mut command = space.command(&space.programs.noop);
        command.args(["--plans", &plans.to_string()]).arg(&dir);
        Self::start(space, NOOP, None, dir, command)
    }

    /// Mounts atlasfs, pinned or not.
    pub fn atlasfs(space: &Space, cpu: Cpu, urls: &[String], more: &[&str]) -> Self {
        let dir = space.folder("atlasfs");
        let mut command = space.command(&space.programs.atlasfs);
        command.arg("mount").args(more);
        let flags = std::iter::once("--registry").chain(std::iter::repeat("--backup"));
        for (flag, url) in flags.zip(urls) {
            command.arg(flag).arg(url);
        }
        let state = space.folder("state");
        command.arg("--state-dir").arg(&state).arg("--log-file");
        command.arg(state.with_extension("log")).arg(&dir);
        let shown = show(space, &command);
        // Processes that the command leaves must not hold this process's pipes.
        let status = on(cpu, || command.stdout(Stdio::null()).status());
        assert!(status.expect("atlasfs").success(), "cannot mount: {shown}");
        let status = std::fs::read(dir.join(".atlasfs/status")).expect("a status");
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        let pid = status["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.expect("the daemon's process");
        space.note(pid);
        Self {
            name: ATLASFS.into(),
            shown,
            place: None,
            dir,
            pid,
            child: None,
        }
    }

    /// Sets the endpoint of atlasfs.
    #[must_use]
    pub fn asking(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Mounts s3fs. By its manual, `use_cache` and `kernel_cache` cache contents,
    /// `enable_noobj_cache` caches missing names, and `max_stat_cache_size` is the number of cached
    /// attributes.
    pub fn s3fs(space: &Space, place: Place) -> Self {
        let (dir, cache) = (space.folder("s3fs"), space.folder("s3fs-cache"));
        let keys = space.secret("s3fs-keys", &format!("{ACCESS_KEY}:{SECRET_KEY}\n"));
        let mut command = space.command(Path::new("s3fs"));
        command
            .arg(super::store::BUCKET)
            .arg(&dir)
            .arg("-f")
            .arg("-o");
        command.arg(format!(
            "url={},use_path_request_style,sigv4,endpoint=us-east-1,passwd_file={},use_cache={},\
             kernel_cache,enable_noobj_cache,max_stat_cache_size=200000,stat_cache_expire=900,\
             attr_timeout=60,entry_timeout=60",
            place.endpoint(),
            keys.display(),
            cache.display()
        ));
        Self::start(space, "s3fs 1.90", Some(place), dir, command)
    }

    /// Mounts rclone. By its manual, `--vfs-cache-mode full` caches contents, and
    /// `--dir-cache-time` names. `--attr-timeout` lets the kernel cache attributes.
    /// `--use-server-modtime` saves a HEAD for each file, and `--vfs-fast-fingerprint` another.
    pub fn rclone(space: &Space, name: &str, program: &Path, place: Place) -> Self {
        let (dir, cache) = (space.folder("rclone"), space.folder("rclone-cache"));
        let mut command = space.command(program);
        command.args(["mount", &format!(":s3:{}", super::store::BUCKET)]);
        command.arg(&dir).arg("--cache-dir").arg(&cache);
        command.args(["--s3-endpoint", &place.endpoint()]);
        command.args(
            "--s3-provider Other --s3-env-auth --s3-region us-east-1 --s3-force-path-style \
             --s3-list-version 2 --s3-no-check-bucket --vfs-cache-mode full --dir-cache-time 1h \
             --attr-timeout 60s --poll-interval 0 --use-server-modtime --vfs-fast-fingerprint \
             --config /dev/null"
                .split_whitespace(),
        );
        Self::start(space, name, Some(place), dir, command)
    }

    /// Mounts mount-s3. By its manual, `--cache` caches contents on disk, and `--metadata-ttl`
    /// names and attributes.
    pub fn mount_s3(space: &Space, program: &Path, place: Place) -> Self {
        let (dir, cache) = (space.folder("mount-s3"), space.folder("mount-s3-cache"));
        let mut command = space.command(program);
        command
            .args([super::store::BUCKET])
            .arg(&dir)
            .arg("--cache")
            .arg(&cache);
        command.args(["--endpoint-url", &place.endpoint()]);
        command.args(
            "--foreground --force-path-style --region us-east-1 --metadata-ttl 60 \
             --allow-overwrite --allow-delete"
                .split_whitespace(),
        );
        Self::start(space, "mount-s3", Some(place), dir, command)
    }

    fn start(
        space: &Space,
        name: &str,
        place: Option<Place>,
        dir: PathBuf,
        command: Command,
    ) -> Self {
        let shown = show(space, &command);
        // A session of its own, as every daemon has, and as atlasfs makes for itself. The scheduler
        // divides a processor between sessions first, so four clients in the daemon's own session
        // would wait for each other less than they do in practice.
        let mut detached = space.command(Path::new("setsid"));
        detached.arg(command.get_program()).args(command.get_args());
        let log = File::create(dir.with_extension("log")).expect("a log");
        detached
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let child = on(Cpu::Measured, || detached.spawn());
        let child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
        let pid = i32::try_from(child.id()).expect("a process id");
        space.note(pid);
        let mut subject = Self {
            name: name.into(),
            shown,
            place,
            dir,
            pid,
            child: Some(child),
        };
        subject.wait_until_mounted();
        subject
    }

    fn wait_until_mounted(&mut self) {
        let above = self.dir.parent().expect("a folder above");
        let outside = std::fs::metadata(above).expect("a folder").dev();
        let until = Instant::now() + START_TIMEOUT;
        while Instant::now() < until {
            if std::fs::metadata(&self.dir).is_ok_and(|inside| inside.dev() != outside) {
                return;
            }
            let child = self.child.as_mut().expect("a child");
            if let Ok(Some(status)) = child.try_wait() {
                panic_with_log(&self.dir, &format!("{} ended: {status}", self.name));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic_with_log(&self.dir, &format!("{} does not mount", self.name));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the number of its connection in the kernel's tracing.
    pub fn connection(&self) -> u64 {
        let metadata = std::fs::metadata(&self.dir).expect("a mount");
        nix::sys::stat::minor(metadata.dev())
    }
}

fn panic_with_log(dir: &Path, what: &str) -> ! {
    let log = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
    panic!("{what}\n{log}");
}

/// Formats a command for the report, without the names of its folders.
fn show(space: &Space, command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    let args: Vec<_> = args.collect();
    let shown = format!("{} {}", program.to_string_lossy(), args.join(" "));
    shown.replace(&*space.dir().to_string_lossy(), "$D")
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let pid = Pid::from_raw(self.pid);
        let ends = Instant::now() + Duration::from_secs(5);
        while Instant::now() < ends {
            let ended = match &mut self.child {
                Some(child) => matches!(child.try_wait(), Ok(Some(_))),
                None => kill(pid, None).is_err(),
            };
            if ended {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = kill(pid, Signal::SIGKILL);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}
