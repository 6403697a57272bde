//! The exit codes and their meaning.

use std::process::ExitCode;

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command was successful; for `status`: mounted and healthy.
    Success,
    /// The command failed, and the line on stderr gives the reason; for `status`: not mounted, or
    /// no answer; for `diff`: the versions differ.
    Failure,
    /// The command line is wrong; for `diff`: the command failed.
    Usage,
    /// `status`: mounted, but a target is out or some target has pending pushes. `verify` and
    /// `sync`: the targets differ, or some could not be compared. `check`: a target is not usable.
    /// The mount's own process: it has ended during pushes, and their closes failed.
    Degraded,
    /// The mount's own process: the connection to the kernel was broken from outside.
    Aborted,
}

impl Exit {
    /// Returns the code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Degraded => 3,
            Self::Aborted => 4,
        }
    }

    /// Returns the meaning of another process's exit code.
    pub fn from_code(code: u64) -> Self {
        match code {
            0 => Self::Success,
            2 => Self::Usage,
            3 => Self::Degraded,
            4 => Self::Aborted,
            _ => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The exit codes for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  success; status: mounted and healthy; verify, sync: all targets now hold the same;
     check: every target is usable
  1  failure, with the reason in one line on stderr; status: not mounted, or no answer;
     diff: the versions differ
  2  invalid command line; diff: failure, with the reason in one line on stderr
  3  status: degraded (a target is out, something is pending or unpushed, a journal file is
     damaged or unreadable, or the last push of an artifact failed);
     verify, sync: the targets still differ, or one of them could not be compared;
     check: some target is not usable;
     mount -f: ended during pushes, whose closes did not succeed
  4  mount -f: another process aborted the kernel connection";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_leads_back_to_its_meaning_and_stands_in_the_help() {
        for exit in [
            Exit::Success,
            Exit::Failure,
            Exit::Usage,
            Exit::Degraded,
            Exit::Aborted,
        ] {
            assert_eq!(Exit::from_code(exit.code().into()), exit);
            assert!(HELP.contains(&format!("\n  {}  ", exit.code())));
        }
        assert_eq!(Exit::from_code(139), Exit::Failure);
    }
}
