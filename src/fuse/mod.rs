//! The mount: the only place that names fuser or an errno.

mod answer;
mod attr;
mod bounded;
mod dispatch;
mod errno;
mod error;
mod filesystem;
mod fusermount;
mod mount;
mod mountinfo;
mod occupant;
mod preflight;
mod process;
mod session;
mod turn;

pub use attr::Owner;
pub use bounded::{close_all, within};
pub use dispatch::Deadlines;
pub use error::{MountError, UnmountError};
pub use mount::{Mount, MountRequest, unmount};
pub use mountinfo::{Device, MountEntry};
pub use occupant::{Occupant, occupant, resolve};
pub use preflight::{clear_dead, preflight};
pub use session::{Served, serve};
