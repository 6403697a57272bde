//! The semantics of the mount, each sentence a test, without a mount.

mod deletion;
mod hedge;
mod inode;
mod kernel;
mod model;
mod names;
mod offline;
mod pull;
mod push;
mod recovery;
mod rename;
mod repair;
mod resilience;
mod scratch;
mod simulation;
