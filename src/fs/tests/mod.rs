//! The semantics of the mount, one test for each sentence, without a mount.

mod archive;
mod author;
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
mod lineage;
mod listing;
mod lost;
mod migrations;
mod model;
mod names;
mod offline;
mod outdated;
mod plan_status;
mod pull;
mod push;
mod reconcile;
mod recovery;
mod removal;
mod rename;
mod replace;
mod resilience;
mod restart;
mod returning;
mod simulation;
mod stamp_key;
mod tag;
mod temporary;
mod twins;
mod unsupported;
mod verdict;
mod version;

const V1: &[u8] = b"schema \"public\" {}\n";
const V2: &[u8] = b"schema \"public\" {}\nschema \"audit\" {}\n";
const V3: &[u8] = b"schema \"third\" {}\n";

/// The listing of a repository that holds a schema in HCL.
const LISTED: [&str; 3] = ["schema", "schema.hcl", "plans"];
