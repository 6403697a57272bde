//! `atlasfs forget`: a person drops a store for good, with what waits for it.

use serde_json::Value;

use super::args::ForgetArgs;
use super::exit::Exit;
use super::job::send_order;
use super::status::{STATUS_TIMEOUT, fetch, mounted};
use super::{complain, print, table};

/// Gives up what waits for a store, and prints what is lost.
pub(super) fn forget(args: &ForgetArgs) -> Exit {
    match give_up(args) {
        Ok(lost) => {
            print(&lost);
            Exit::Success
        }
        Err(why) => {
            complain(&why);
            Exit::Failure
        }
    }
}

fn give_up(args: &ForgetArgs) -> Result<String, String> {
    let (target, shown) = (&args.target, args.dir.display());
    let (_, status) = fetch(&args.dir, STATUS_TIMEOUT)?;
    let targets = table::list(&status, "targets");
    if targets
        .iter()
        .any(|known| table::text(known, "url") == target)
    {
        return Err(format!(
            "{target} is a target of {shown}: mount without it, and forget it then"
        ));
    }
    let (mut lost, mut store) = (Vec::new(), None);
    for push in table::list(&status, "pending") {
        let mut elsewhere = table::list(push, "elsewhere").iter();
        let waits = elsewhere.find(|waits| names(waits, target));
        if let Some(waits) = waits {
            let (artifact, stamp) = (table::text(push, "artifact"), table::text(push, "stamp"));
            lost.push(format!("{artifact} of {stamp}: {target} will never get it"));
            store = Some(table::text(waits, "id").to_owned());
        }
    }
    let store = store.ok_or_else(|| {
        format!("nothing of {shown} waits for {target}: atlasfs status {shown} shows what waits")
    })?;
    let jobs = mounted(&args.dir)?.join(".atlasfs/jobs");
    send_order(&jobs, format!("forget {store}\n"))
        .map_err(|error| format!("cannot forget {target}: {error}"))?;
    Ok(lost.join("\n"))
}

/// Tells whether a store is the one that the user names.
fn names(store: &Value, target: &str) -> bool {
    let location = table::text(store, "location");
    let path = target
        .strip_prefix("file://")
        .map(|path| format!("file:{path}"));
    table::text(store, "id") == target || location == target || path.as_deref() == Some(location)
}
