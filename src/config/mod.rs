//! `atlas.hcl` and URLs, turned into what to mount.
