//! The system's log: one datagram a line, as RFC 3164 has it; journald reads it as well.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The facility of daemons, in its place in the priority.
const FACILITY: u8 = 3 << 3;

/// Sends lines to the system's log.
#[derive(Debug, Clone)]
pub(super) struct Syslog {
    socket: Arc<UnixDatagram>,
}

impl Syslog {
    /// Connects to the socket where the system's log listens.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A log that nobody reads must not hold up anybody.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Arc::new(socket),
        })
    }

    fn line(&self, level: Level) -> Line {
        Line {
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

/// One line on its way.
#[derive(Debug)]
pub(super) struct Line {
    socket: Arc<UnixDatagram>,
    severity: u8,
}

impl Write for Line {
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
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        self.line(Level::INFO)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        self.line(*meta.level())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
