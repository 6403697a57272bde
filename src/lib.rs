//! atlasfs mounts the Atlas Registry as a directory: copying a file in is a push, reading one is
//! a pull, and the registry is never a single point of failure.
//!
//! The house has seven floors, and a floor imports only floors below it:
//!
//! - [`cli`]: the command line;
//! - [`config`]: `atlas.hcl` and URLs, read into the repositories to mount;
//! - [`fuse`]: the only place that names fuser or an errno: parse, dispatch, reply;
//! - [`fs`]: names, inodes and handles: POSIX meaning, async, tested without a mount;
//! - [`registry`]: push and pull: the three promises live here;
//! - [`store`]: one store: drivers, verdicts, deadlines;
//! - [`model`]: names, stamps and formats, for all floors above.
//!
//! Beside them, `dir` opens files in directories that others can write to.

#[cfg(test)]
mod arbitrary;
pub mod cli;
pub mod config;
mod dir;
#[cfg(test)]
mod fault_injection;
pub mod fs;
pub mod fuse;
pub mod model;
pub mod registry;
pub mod store;
