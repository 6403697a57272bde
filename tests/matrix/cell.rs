//! One cell of the matrix: a program, a fault, the affected targets, and the durability.

use std::fmt;

use super::programs::{Kind, PROGRAMS, Program};
use super::trouble::{Errno, Trouble};

/// The targets that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Affected {
    Registry,
    OneBackup,
    All,
}

/// The rule of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    Any,
    Registry,
    All,
}

/// Whether the mount knows the names before the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// The names are fresh, so that the push alone meets the fault.
    Known,
    /// Each look-up asks the targets, and meets the fault as well.
    Asked,
}

/// The conditions that the programs of one mount share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Case {
    pub trouble: Trouble,
    pub affected: Affected,
    pub durability: Durability,
    pub names: Names,
}

/// A cell.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub program: &'static Program,
    pub case: Case,
}

/// The expected end of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every target has the content.
    Complete,
    /// The rule holds, and some target misses the push.
    Degraded,
    /// Close returns this error.
    Fails(Errno),
    /// Open or close returns this error.
    NotOpened(Errno),
}

impl Ending {
    /// Returns the error.
    pub fn errno(self) -> Option<Errno> {
        match self {
            Self::Complete | Self::Degraded => None,
            Self::Fails(errno) | Self::NotOpened(errno) => Some(errno),
        }
    }
}

impl Affected {
    pub const ALL: [Self; 3] = [Self::Registry, Self::OneBackup, Self::All];

    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::OneBackup => "one-backup",
            Self::All => "all-targets",
        }
    }
}

impl Durability {
    pub const ALL: [Self; 3] = [Self::Any, Self::Registry, Self::All];

    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Registry => "registry",
            Self::All => "all",
        }
    }

    /// Returns whether the rule holds. `has` says which targets have the content, the registry
    /// first.
    pub fn holds(self, has: &[bool]) -> bool {
        match self {
            Self::Any => has.contains(&true),
            Self::Registry => has[0],
            Self::All => !has.contains(&false),
        }
    }
}

impl Case {
    /// Returns whether a target fails; the registry is 0.
    pub fn strikes(self, target: usize) -> bool {
        match self.affected {
            _ if self.trouble == Trouble::None => false,
            Affected::Registry => target == 0,
            // The rules alternate between the backups.
            Affected::OneBackup => target == 1 + self.durability as usize % 2,
            Affected::All => true,
        }
    }

    /// Every case of the matrix. Without a fault, there is one case for all affected targets.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for trouble in Trouble::ALL {
            for affected in Affected::ALL {
                if trouble == Trouble::None && affected != Affected::Registry {
                    continue;
                }
                for durability in Durability::ALL {
                    all.extend([Names::Known, Names::Asked].map(|names| Self {
                        trouble,
                        affected,
                        durability,
                        names,
                    }));
                }
            }
        }
        all
    }
}

impl Cell {
    /// Returns whether the artifact exists before. For programs that work on both, the cases
    /// alternate.
    pub fn is_there_before(&self) -> bool {
        let Case {
            trouble,
            affected,
            durability,
            names: _,
        } = self.case;
        match self.program.kind {
            Kind::Makes | Kind::Moves => false,
            Kind::Edits => true,
            Kind::Writes => (trouble as usize + affected as usize + durability as usize) % 2 == 1,
        }
    }

    /// Returns the expected end of a push.
    pub fn ending(&self) -> Ending {
        let Some(errno) = self.case.trouble.errno() else {
            return Ending::Complete;
        };
        let has = [0, 1, 2].map(|target| !self.case.strikes(target));
        if let (Names::Asked, Some(errno)) = (self.case.names, self.case.trouble.of_listings()) {
            match self.case.affected {
                Affected::All => return Ending::NotOpened(errno),
                // A refusal is an answer, so the mount asks no backup.
                Affected::Registry if errno != Errno::Io => return Ending::NotOpened(errno),
                _ => {}
            }
        }
        match (self.case.trouble, self.case.affected) {
            // The registry decides conflicts. A push that lost one goes to no backup.
            (Trouble::Precondition, Affected::Registry | Affected::All) => Ending::Fails(errno),
            _ if self.case.durability.holds(&has) => Ending::Degraded,
            _ => Ending::Fails(errno),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trouble, rule) = (self.trouble.name(), self.durability.name());
        write!(out, "{trouble}/{}/{rule}", self.affected.name())?;
        match self.names {
            Names::Known => Ok(()),
            Names::Asked => out.write_str("/asked"),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.program.name, self.case)
    }
}

/// The cells to run.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Every program with every fault of every affected target, under one rule each: the rules
    /// alternate. Every program without a fault under every rule. And with look-ups, every program
    /// with every fault once.
    Some,
    /// The same under all rules, except with look-ups.
    All,
    /// The cells of this name; a part `*` matches any. `*/*/*/*/asked` selects all cells with
    /// look-ups.
    Named(String),
}

impl Choice {
    /// Returns the choice of the environment.
    pub fn of_environment() -> Self {
        match std::env::var("ATLASFS_CELL") {
            Ok(name) => Self::Named(name),
            Err(_) if std::env::var("ATLASFS_MATRIX").as_deref() == Ok("all") => Self::All,
            Err(_) => Self::Some,
        }
    }

    /// Returns the cells of a case that run.
    pub fn cells(&self, case: Case) -> Vec<Cell> {
        let cells = PROGRAMS.iter().map(|program| Cell { program, case });
        let chosen = cells.enumerate().filter(|(n, cell)| match self {
            Self::Some | Self::All => {
                let (affected, rule) = (case.affected as usize, case.durability as usize);
                let turn = n + case.trouble as usize;
                match (case.names, self) {
                    (Names::Known, Self::All) => true,
                    (Names::Known, _) if case.trouble == Trouble::None => true,
                    (Names::Known, _) => (turn + affected) % 3 == rule,
                    (Names::Asked, _) => turn % 9 == affected * 3 + rule,
                }
            }
            Self::Named(name) => is_named(cell, name),
        });
        chosen.map(|(_, cell)| cell).collect()
    }
}

fn is_named(cell: &Cell, name: &str) -> bool {
    let full = cell.to_string();
    let (full, name) = (full.split('/'), name.split('/'));
    full.clone().count() == name.clone().count()
        && full
            .zip(name)
            .all(|(part, asked)| asked == "*" || asked == part)
}

#[test]
fn the_usual_choice_has_each_program_with_each_fault_of_each_affected_target() {
    let cells: Vec<Cell> = Case::all()
        .into_iter()
        .flat_map(|case| Choice::Some.cells(case))
        .collect();
    assert!(cells.len() >= 500, "{}", cells.len());
    for program in &PROGRAMS {
        for case in Case::all() {
            let met = cells.iter().any(|cell| {
                cell.program.name == program.name
                    && (cell.case.trouble, cell.case.affected) == (case.trouble, case.affected)
            });
            assert!(met, "{} never meets {case}", program.name);
        }
    }
}

#[test]
fn a_cell_is_chosen_by_its_name() {
    let count = |name: &str| {
        let choice = Choice::Named(name.into());
        let cases = Case::all().into_iter();
        cases.map(|case| choice.cells(case).len()).sum::<usize>()
    };
    assert_eq!(count("cp/hang/registry/any"), 1);
    assert_eq!(count("*/hang/registry/any"), PROGRAMS.len());
    assert_eq!(count("cp/hang/registry"), 0);
}
