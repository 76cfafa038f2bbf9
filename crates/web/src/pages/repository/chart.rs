//! Sizes over time as a chart: what was protected, and what was written for it, snapshot by snapshot.

use std::collections::HashMap;

use holdfast_app::text::size;
use holdfast_engine::repo::snapshots::SnapshotInfo;

use crate::words;

/// Width and height of the drawing; it is stretched.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 100.0;
/// Points that are drawn.
const POINTS: usize = 200;

/// A chart with its texts.
#[derive(Debug)]
pub(super) struct Chart {
    /// Labels of the axis of sizes, from the top.
    pub(super) y: [String; 3],
    /// Labels of the axis of times.
    pub(super) x: [String; 3],
    /// Path of the protected size, as SVG writes it.
    pub(super) protected: String,
    /// Path of what was written.
    pub(super) written: String,
    /// The same as an area.
    pub(super) area: String,
    /// What it says, in words.
    pub(super) alt: String,
}

/// A moment: what was protected then, and what had been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    time: i64,
    protected: u64,
    written: u64,
}

impl Chart {
    /// The chart of these snapshots, oldest first; `None` if there are not two at different times.
    pub(super) fn of(snapshots: &[SnapshotInfo]) -> Option<Self> {
        let points = thinned(points(snapshots));
        let (first, last) = (*points.first()?, *points.last()?);
        let span = last.time.saturating_sub(first.time);
        if span <= 0 {
            return None;
        }
        let most = points.iter().map(|p| p.protected.max(p.written)).max().unwrap_or(0);
        let top = round_up(most.max(1));
        let x = |point: &Point| (point.time - first.time) as f64 / span as f64 * WIDTH;
        let y = |bytes: u64| HEIGHT - bytes as f64 / top as f64 * HEIGHT;
        let line = |of: fn(&Point) -> u64| {
            let mut path = String::new();
            for (i, point) in points.iter().enumerate() {
                let letter = if i == 0 { 'M' } else { 'L' };
                path.push_str(&format!("{letter}{:.1} {:.1}", x(point), y(of(point))));
            }
            path
        };
        let (protected, written) = (line(|p| p.protected), line(|p| p.written));
        let middle = first.time + span / 2;
        Some(Self {
            y: [size(top), size(top / 2), "0".into()],
            x: [words::day(first.time), words::day(middle), words::day(last.time)],
            area: format!("{written}V{HEIGHT}H0Z"),
            alt: format!(
                "{} to {}. Protected files: {} to {}. Written for all snapshots: {} to {}",
                words::day(first.time),
                words::day(last.time),
                size(first.protected),
                size(last.protected),
                size(first.written),
                size(last.written),
            ),
            protected,
            written,
        })
    }
}

/// A point for each snapshot: the newest of every origin counts as protected.
fn points(snapshots: &[SnapshotInfo]) -> Vec<Point> {
    let mut newest: HashMap<(&str, Vec<&[u8]>), u64> = HashMap::new();
    let (mut protected, mut written) = (0_u64, 0_u64);
    let mut points = Vec::with_capacity(snapshots.len());
    for info in snapshots {
        let record = &info.record;
        let stored = record.stats.as_ref().map_or(0, |stats| stats.bytes_stored);
        written = written.saturating_add(stored);
        if !record.partial {
            let roots = record.roots.iter().map(|root| &root.path[..]).collect();
            let bytes = record.sum().bytes;
            let before = newest.insert((&record.host, roots), bytes).unwrap_or(0);
            protected = protected.saturating_sub(before).saturating_add(bytes);
        }
        points.push(Point { time: record.time, protected, written });
    }
    points
}

/// As many as are drawn, the first and the last among them.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let last = points.len().saturating_sub(1);
    if points.len() <= POINTS {
        return points;
    }
    (0..POINTS).filter_map(|i| points.get(i * last / (POINTS - 1)).copied()).collect()
}

/// A bound that can be read: 1, 2 or 5 times a power of two that sizes are written in.
fn round_up(bytes: u64) -> u64 {
    let mut unit = 1_u64;
    while bytes / unit >= 1024 {
        unit = unit.saturating_mul(1024);
    }
    let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1024];
    let found = steps.into_iter().map(|step| unit.saturating_mul(step)).find(|top| *top >= bytes);
    found.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_engine::format::snapshot::{Root, Snapshot, Stats, Sum};
    use holdfast_engine::hash::SnapshotId;

    fn info(time: i64, path: &[u8], bytes: u64, stored: u64) -> SnapshotInfo {
        let sum = Some(Sum { bytes, ..Sum::default() });
        let root = Root { path: path.to_vec(), sum, ..Root::default() };
        let stats = Some(Stats { bytes_stored: stored, ..Stats::default() });
        let record = Snapshot { time, roots: vec![root], stats, ..Snapshot::default() };
        SnapshotInfo { id: SnapshotId::new([time as u8; 16]), record }
    }

    #[test]
    fn origins_add_up_and_later_snapshots_take_the_place_of_earlier_ones() {
        let snapshots = [info(1, b"/a", 100, 50), info(2, b"/b", 10, 5), info(3, b"/a", 80, 0)];
        let found: Vec<_> = points(&snapshots).iter().map(|p| (p.protected, p.written)).collect();
        assert_eq!(found, [(100, 50), (110, 55), (90, 55)]);
        let chart = Chart::of(&snapshots);
        let chart = chart.as_ref();
        assert_eq!(chart.map(|c| c.y[0].as_str()), Some("200 B"));
        assert_eq!(chart.map(|c| c.protected.as_str()), Some("M0.0 50.0L200.0 45.0L400.0 55.0"));
        assert!(Chart::of(&snapshots[..1]).is_none());
        assert!(Chart::of(&[]).is_none());
    }

    #[test]
    fn bounds_can_be_read_and_many_points_are_thinned() {
        assert_eq!([1, 3, 100, 600, 1 << 20].map(round_up), [1, 5, 100, 1024, 1 << 20]);
        let many = (0..1000).map(|time| Point { time, protected: 0, written: 0 }).collect();
        let thin = thinned(many);
        assert_eq!((thin.len(), thin.last().map(|p| p.time)), (POINTS, Some(999)));
    }
}
