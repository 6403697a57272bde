//! The log: its destination and its format.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::settings::{LogFormat, LogSettings};
use crate::registry::{StateDir, StateDirError, StateRoot};

/// The socket of the system's log.
const DEV_LOG: &str = "/dev/log";

/// The destination of the log without `--log-file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogDestination {
    /// To the user's terminal.
    Stderr,
    /// To the system's log; without one, to a file in the state directory.
    Background,
}

/// The reason why the log can't start.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("cannot write the log {path}: {1}; choose another with --log-file", path = .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error("cannot start the log: {0}")]
    Start(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging.
pub(super) fn start(
    settings: &LogSettings,
    place: LogDestination,
    state_dir: &Path,
) -> Result<(), LogError> {
    if let Some(file) = &settings.file
        && file.starts_with(state_dir)
    {
        // Otherwise the log would be the first file in the directory, and atlasfs would not
        // recognise the directory as its own.
        StateRoot::open(state_dir)?;
    }
    let (writer, look) = match (&settings.file, place) {
        (Some(path), _) => (to_file(path)?, Look::Plain),
        (None, LogDestination::Stderr) => (BoxMakeWriter::new(io::stderr), Look::of_stderr()),
        (None, LogDestination::Background) => match Syslog::connect(Path::new(DEV_LOG)) {
            Ok(syslog) => (BoxMakeWriter::new(syslog), Look::Timeless),
            // The file's permissions let no other user read it.
            Err(_) => {
                let file = StateDir::log(&settings.dir)?;
                (BoxMakeWriter::new(Mutex::new(file)), Look::Plain)
            }
        },
    };
    Registry::default()
        .with(layer(settings.format, look, writer).with_filter(filter(settings.level)))
        .try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, "a bug in atlasfs: {message}");
    }));
    Ok(())
}

/// The format of a text line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    Coloured,
    /// Without the time, because the system's log adds it.
    Timeless,
}

impl Look {
    fn of_stderr() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && io::stderr().is_terminal() {
            Self::Coloured
        } else {
            Self::Plain
        }
    }
}

fn layer(
    format: LogFormat,
    look: Look,
    writer: BoxMakeWriter,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(look == Look::Coloured);
    match (format, look) {
        (LogFormat::Json, _) => layer.json().boxed(),
        (LogFormat::Text, Look::Timeless) => layer.without_time().boxed(),
        (LogFormat::Text, Look::Plain | Look::Coloured) => layer.boxed(),
    }
}

/// Libraries log only warnings and errors.
fn filter(level: Level) -> Targets {
    Targets::new()
        .with_default(level.min(Level::WARN))
        .with_target("atlasfs", level)
}

fn to_file(path: &Path) -> Result<BoxMakeWriter, LogError> {
    let open = || -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
    };
    let file = open().map_err(|error| LogError::File(path.to_owned(), error))?;
    Ok(BoxMakeWriter::new(Mutex::new(file)))
}

/// The facility of daemons, at its position in the priority.
const FACILITY: u8 = 3 << 3;

/// Sends lines to the system's log: one datagram per line, in the format of RFC 3164. journald
/// reads it too.
#[derive(Debug, Clone)]
struct Syslog {
    socket: Arc<UnixDatagram>,
}

impl Syslog {
    /// Connects to the socket of the system's log.
    fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A log without a reader must not block the mount.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Arc::new(socket),
        })
    }

    fn line(&self, level: Level) -> SyslogLine {
        SyslogLine {
            socket: self.socket.clone(),
            severity: match level {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                _ => 7,
            },
        }
    }
}

/// A line before it is sent.
#[derive(Debug)]
struct SyslogLine {
    socket: Arc<UnixDatagram>,
    severity: u8,
}

impl Write for SyslogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end().replace('\n', " ");
        let message = format!(
            "<{}>{} atlasfs[{}]: {text}",
            FACILITY | self.severity,
            chrono::Utc::now().format("%b %e %T"),
            std::process::id(),
        );
        self.socket.send(message.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = SyslogLine;

    fn make_writer(&'a self) -> SyslogLine {
        self.line(Level::INFO)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> SyslogLine {
        self.line(*meta.level())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_libraries_are_logged_from_warnings_on() {
        for (level, own, others) in [
            (Level::DEBUG, Level::DEBUG, Level::WARN),
            (Level::INFO, Level::INFO, Level::WARN),
            (Level::ERROR, Level::ERROR, Level::ERROR),
        ] {
            let filter = filter(level);
            assert!(filter.would_enable("atlasfs::fs", &own));
            assert!(filter.would_enable("fuser", &others));
            assert!(!filter.would_enable("fuser", &Level::INFO));
            assert!(!filter.would_enable("atlasfs::fs", &Level::TRACE));
        }
    }

    #[test]
    fn a_log_file_that_cannot_be_written_is_named() {
        let Err(error) = to_file(Path::new("/proc/none/log")) else {
            panic!("written");
        };
        assert!(error.to_string().contains("/proc/none/log"), "{error}");
    }

    #[test]
    fn a_line_is_one_datagram_with_its_urgency() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let listener = UnixDatagram::bind(&path).unwrap();
        let log = Syslog::connect(&path).unwrap();
        log.line(Level::WARN).write_all(b"WARN a\nb\n").unwrap();
        let mut bytes = [0; 256];
        let len = listener.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..len]).unwrap();
        assert!(text.starts_with("<28>"), "{text}");
        let tag = format!(" atlasfs[{}]: WARN a b", std::process::id());
        assert!(text.ends_with(&tag), "{text}");
    }
}
