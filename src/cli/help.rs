//! `atlasfs help`: the documentation inside the binary.

use std::fmt::Write;

use clap::Command;

use super::exit;

/// A page of the documentation.
struct Topic {
    name: &'static str,
    about: &'static str,
    page: &'static str,
}

const TOPICS: [Topic; 6] = [
    Topic {
        name: "semantics",
        about: "The guarantees of the mount, with the tests that prove them",
        page: include_str!("../docs/semantics.md"),
    },
    Topic {
        name: "configuration",
        about: "atlas.hcl, flags, fstab, the embedded registry, proxies",
        page: include_str!("../docs/configuration.md"),
    },
    Topic {
        name: "stores",
        about: "Target URLs, credentials, permissions, the layout of a store",
        page: include_str!("../docs/stores.md"),
    },
    Topic {
        name: "operations",
        about: "Status, metrics, events, the journal, history, tags, verify, sync and check",
        page: include_str!("../docs/operations.md"),
    },
    Topic {
        name: "performance",
        about: "Measurements, and how to repeat them",
        page: include_str!("../docs/performance.md"),
    },
    Topic {
        name: "troubleshooting",
        about: "Error messages, editors and tools",
        page: include_str!("../docs/troubleshooting.md"),
    },
];

/// Returns the page on a topic, the help of a command, or the general help.
///
/// # Errors
///
/// One line for a topic that doesn't exist.
pub(super) fn on(topic: Option<&str>, mut cli: Command) -> Result<String, String> {
    // Gives each command its full name for the usage line.
    cli.build();
    let Some(name) = topic else {
        return Ok(text(&mut cli));
    };
    if let Some(topic) = TOPICS.iter().find(|topic| topic.name == name) {
        return Ok(topic.page.trim_end().to_owned());
    }
    let visible = |command: &&mut Command| !command.is_hide_set();
    if let Some(command) = cli.find_subcommand_mut(name).filter(visible) {
        return Ok(text(command));
    }
    let commands = cli.get_subcommands().filter(|it| !it.is_hide_set());
    let commands: Vec<&str> = commands.map(Command::get_name).collect();
    Err(format!(
        "no help on {name:?}: the topics are {}; the commands are {}",
        TOPICS.map(|topic| topic.name).join(", "),
        commands.join(", ")
    ))
}

/// Returns the same text as the flag `--help`.
fn text(command: &mut Command) -> String {
    let text = command.render_help().to_string();
    text.trim_end().to_owned()
}

/// Returns the end of the general help: the topics, and the exit codes.
pub(super) fn overview() -> String {
    let mut text = String::from("Topics, for `atlasfs help TOPIC`:\n");
    for Topic { name, about, .. } in &TOPICS {
        let _ = writeln!(text, "  {name:15}  {about}");
    }
    format!("{text}\n{}", exit::HELP)
}
