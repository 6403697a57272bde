//! The semantics of the mount, one test for each sentence, without a mount.

mod by_hand;
mod clocks;
mod closer;
mod cold_start;
mod conflict;
mod deadline;
mod deletion;
mod document;
mod doubt;
mod fallback;
mod fixtures;
mod inode;
mod kernel;
mod killed;
mod listing;
mod model;
mod names;
mod offline;
mod outdated;
mod pull;
mod push;
mod reconcile;
mod recovery;
mod rename;
mod replace;
mod resilience;
mod restart;
mod returning;
mod simulation;
mod temporary;
mod twins;
mod unsupported;
mod verdict;

const V1: &[u8] = b"schema \"public\" {}\n";
const V2: &[u8] = b"schema \"public\" {}\nschema \"audit\" {}\n";
const V3: &[u8] = b"schema \"third\" {}\n";
