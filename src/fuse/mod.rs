//! The FUSE mount: the only module that names fuser or an errno.

mod bounded;
mod convert;
mod dispatch;
mod error;
mod filesystem;
mod fusermount;
mod mount;
mod mountinfo;
mod occupant;
mod preflight;
mod process;
mod session;

pub use bounded::{close_all, within};
pub use convert::Owner;
pub use dispatch::Deadlines;
pub use error::{MountError, UnmountError};
pub use mount::ActiveMount;
pub use mountinfo::{Device, MountEntry};
pub use occupant::{Occupant, occupant, resolve, unmount};
pub use preflight::{MountRequest, clear_dead, preflight};
pub use session::{Served, serve};
