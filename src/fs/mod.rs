//! Names, inodes and handles: what POSIX means here, without a mount.
