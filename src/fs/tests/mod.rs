//! The semantics of the mount, each sentence a test, without a mount.

mod closer;
mod conflict;
mod deadline;
mod deletion;
mod document;
mod doubt;
mod hedge;
mod inode;
mod kernel;
mod killed;
mod model;
mod names;
mod offline;
mod pull;
mod push;
mod recovery;
mod rename;
mod repair;
mod resilience;
mod restart;
mod returning;
mod scratch;
mod simulation;
mod twins;
mod unsupported;
mod verdict;
mod worlds;

const V1: &[u8] = b"schema \"public\" {}\n";
const V2: &[u8] = b"schema \"public\" {}\nschema \"audit\" {}\n";
const V3: &[u8] = b"schema \"third\" {}\n";
