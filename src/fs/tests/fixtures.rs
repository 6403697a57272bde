//! Worlds that tests begin in.

use super::kernel::{Choice, World};
use crate::registry::Settings;
use crate::store::{Fault, Memory};

/// Makes a plan.
pub fn plan(name: &str) -> Vec<u8> {
    format!("plan \"{name}\" {{\n  from = \"a=\"\n  to = \"b=\"\n  migration = \"SELECT 1\"\n}}\n")
        .into_bytes()
}

/// Makes a mount with a schema.
pub async fn world_with(content: &[u8]) -> World {
    let world = World::new();
    world.mkdir("app").await.unwrap();
    world.cp("app/schema.hcl", content).await.unwrap();
    world
}

/// Makes a mount of one repository, with these settings.
pub fn with(settings: Settings) -> World {
    World::with(Choice {
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
pub async fn world_of(choice: Choice, content: &[u8]) -> World {
    let world = World::with(choice);
    world.cp("app/schema", content).await.unwrap();
    world
}

/// Sets a fault of every target.
pub fn set_all(world: &World, fault: impl Into<Option<Fault>> + Copy) {
    world.all().iter().for_each(|store| store.set_fault(fault));
}
