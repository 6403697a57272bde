//! Worlds that tests begin in.

use super::kernel::{Choice, Fixture};
use crate::registry::Settings;
use crate::store::{Fault, Memory};

/// Makes a plan.
pub fn plan(name: &str) -> Vec<u8> {
    format!("plan \"{name}\" {{\n  from = \"a=\"\n  to = \"b=\"\n  migration = \"SELECT 1\"\n}}\n")
        .into_bytes()
}

/// Makes a mount with a schema.
pub async fn world_with(content: &[u8]) -> Fixture {
    let fixture = Fixture::new();
    fixture.mkdir("app").await.unwrap();
    fixture.cp("app/schema.hcl", content).await.unwrap();
    fixture
}

/// Makes a mount of one repository, with these settings.
pub fn with(settings: Settings) -> Fixture {
    Fixture::with(Choice {
        registry: settings,
        named: vec!["app"],
        ..Choice::default()
    })
}

/// Chooses a mount of one repository.
pub fn choice() -> Choice {
    Choice {
        named: vec!["app"],
        ..Choice::default()
    }
}

/// Chooses a mount of one repository, with these settings.
pub fn choice_of(settings: Settings) -> Choice {
    Choice {
        registry: settings,
        ..choice()
    }
}

/// Makes stores whose listings carry no stamps.
pub fn unstamped_lists() -> Option<[Memory; 3]> {
    Some(std::array::from_fn(|_| Memory::without_listed_stamps()))
}

/// Makes a mount with a schema, as it was chosen.
pub async fn world_of(choice: Choice, content: &[u8]) -> Fixture {
    let fixture = Fixture::with(choice);
    fixture.cp("app/schema", content).await.unwrap();
    fixture
}

/// Sets a fault of every target.
pub fn set_all(fixture: &Fixture, fault: impl Into<Option<Fault>> + Copy) {
    fixture
        .all()
        .iter()
        .for_each(|store| store.set_fault(fault));
}
