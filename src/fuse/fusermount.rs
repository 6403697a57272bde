//! fusermount3, which mounts and unmounts for users other than root.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::error::MountError;

const PROGRAM: &str = "fusermount3";

/// The folders to search when PATH lacks them, as in a session without a login.
const FALLBACK_PATH: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Finds fusermount3.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FALLBACK_PATH.iter().map(PathBuf::from))
        .map(|dir| dir.join(PROGRAM))
        .find(|program| program.is_file())
}

/// Mounts; returns the connection to the kernel.
pub(super) fn mount(dir: &Path, options: &str) -> Result<OwnedFd, MountError> {
    let program = find().ok_or(MountError::NoFusermount)?;
    let failed = |error: io::Error| MountError::Mount(dir.to_owned(), error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    // The socket becomes descriptor 0: any other number would need code after fork.
    let child = Command::new(program)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(dir)
        .env("_FUSE_COMMFD", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // The socket ends with the child, which holds the only other end.
    let received = receive(&ours);
    let output = child.wait_with_output().map_err(failed)?;
    match received {
        Ok(Some(connection)) if output.status.success() => Ok(connection),
        Ok(_) => Err(MountError::Fusermount(
            dir.to_owned(),
            complaint(&output.stderr),
        )),
        Err(error) => Err(failed(error)),
    }
}

/// Unmounts; lazily if files may still be open.
pub(super) fn unmount(dir: &Path, lazy: bool) -> io::Result<()> {
    let program = find().ok_or_else(|| io::Error::other(MountError::NoFusermount))?;
    let mut command = Command::new(program);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = complaint(&output.stderr);
    if complaint.contains("Device or resource busy") {
        Err(io::Error::from(io::ErrorKind::ResourceBusy))
    } else {
        Err(io::Error::other(complaint))
    }
}

/// Receives the descriptor from fusermount3; `None` if fusermount3 ends without one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "fusermount3 sent more than one descriptor",
        ));
    }
    Ok(ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// Returns the error output of fusermount3 in one line, without its name.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text
        .lines()
        .map(|line| match line.split_once("fusermount3: ") {
            Some((_, said)) => said.trim(),
            None => line.trim(),
        })
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        "nothing, but it failed".to_owned()
    } else {
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn receive_returns_the_descriptor_that_was_sent() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(
            &theirs,
            &[IoSlice::new(b"\0")],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
        assert!(receive(&ours).unwrap().is_some());
    }

    #[test]
    fn receive_returns_nothing_at_the_end_of_the_socket() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(receive(&ours).unwrap().is_none());
    }

    #[test]
    fn an_error_output_becomes_one_line() {
        assert_eq!(
            complaint(b"/usr/bin/fusermount3: failed to open x: No such file\nfusermount3: y\n"),
            "failed to open x: No such file; y"
        );
        assert_eq!(complaint(b"\n"), "nothing, but it failed");
    }
}
