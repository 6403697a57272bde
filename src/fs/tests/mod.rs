//! The semantics of the mount, each sentence a test, without a mount.

mod kernel;
mod names;
mod pull;
mod push;
mod recovery;
mod simulation;
