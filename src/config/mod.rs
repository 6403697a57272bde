//! `atlas.hcl` and URLs, turned into what to mount.

#[cfg(test)]
mod fuzz;
mod url;

pub use self::url::{SCHEMES, UrlError, parse_target, refuse_credentials_on_command_line};
