//! Clocks that are wrong: this machine's, another one's, or a store's.

use std::time::{Duration, SystemTime};

use super::fixtures::fixture_with;
use super::kernel::{Choice, Fixture};
use super::{V1, V2};
use crate::model::{Format, Stamp, nanos};
use crate::registry::WallClock;

const HOUR: Duration = Duration::from_secs(3600);

/// A mount whose clock differs from the others' by a constant.
fn with_clock(clock: impl Fn() -> SystemTime + Send + Sync + 'static, beside: &Fixture) -> Fixture {
    let [first, second] = beside.backups.clone();
    Fixture::with(Choice {
        wall: WallClock::new(clock),
        stores: Some([beside.registry.clone(), first, second]),
        ..Choice::default()
    })
}

/// Every time that is too far ahead, in nanoseconds since the epoch.
fn ahead() -> [u64; 3] {
    let now = nanos(SystemTime::now());
    [
        now + nanos(SystemTime::UNIX_EPOCH + HOUR),
        7_258_118_399_999_999_999,
        u64::MAX,
    ]
}

#[tokio::test]
async fn content_with_a_stamp_far_ahead_is_read_and_replaced() {
    for when in ahead() {
        let fixture = Fixture::new();
        let stamp = Stamp::new(when, V1, Format::Hcl);
        fixture.registry.place("app/schema", V1, Some(stamp));
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        fixture.cp("app/schema", V2).await.unwrap();
        let pushed = fixture.registry.object("app/schema").unwrap();
        assert_eq!(pushed.content, V2);
        let when = pushed.stamp.unwrap().when;
        assert!(when <= nanos(SystemTime::now()), "{when}");
        assert_eq!(fixture.another().cat("app/schema").await.unwrap(), V2);
        let told = fixture.cat(".atlasfs/events").await.unwrap();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told.matches("stamp-refused").count(), 1, "{told}");
    }
}

#[tokio::test]
async fn a_file_from_the_future_makes_no_push_unreadable() {
    let fixture = Fixture::new();
    let future = SystemTime::UNIX_EPOCH + Duration::from_nanos(7_258_118_399_999_999_999);
    fixture.registry.place_at("evil/schema", V1, None, future);
    assert_eq!(fixture.cat("evil/schema").await.unwrap(), V1);
    fixture.mkdir("app").await.unwrap();
    fixture.cp("app/schema", V2).await.unwrap();
    let stamp = fixture.registry.object("app/schema").unwrap().stamp;
    assert!(stamp.unwrap().when <= nanos(SystemTime::now()));
    assert_eq!(fixture.another().cat("app/schema").await.unwrap(), V2);
}

#[tokio::test]
async fn a_mount_whose_clock_was_corrected_reads_new_pushes() {
    let fixture = fixture_with(V1).await;
    let future = with_clock(|| SystemTime::now() + 1000 * HOUR, &fixture);
    future.cp("app/schema", V1).await.unwrap();
    assert_eq!(future.cat("app/schema").await.unwrap(), V1);
    future.settle().await;
    let corrected = future.restart(Choice::default());
    fixture.another().cp("app/schema", V2).await.unwrap();
    assert_eq!(corrected.cat("app/schema").await.unwrap(), V2);
}
