//! Reading the history: single runs, pages of them, and days for strips.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rusqlite::{OptionalExtension, Row, params};

use super::{By, Delivery, History, Level, LogLine, Outcome, Report, Run, RunId};
use crate::problem::{Class, Problem};

const COLUMNS: &str =
    "id, plan, verb, place, by, due, started, ended, outcome, cancel, progress, report";

/// Which runs to list: the newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only those of this plan.
    pub plan: Option<String>,
    /// Only those of this verb.
    pub verb: Option<String>,
    /// Only those of this repository, as the history shows it.
    pub place: Option<String>,
    /// Only those that ended so.
    pub outcome: Option<Outcome>,
    /// Only those with a lower number: where the page before ended.
    pub before: Option<RunId>,
    /// Only those that began then or later; nanoseconds since the epoch.
    pub since: Option<i64>,
    /// At most so many; `None`: all.
    pub limit: Option<u32>,
}

/// A day of a plan, for a strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Which.
    pub date: Date,
    /// How the last run that began on it ended; `None` if there was none. A missed run counts only
    /// where no other did.
    pub outcome: Option<Outcome>,
    /// Runs that began on it, missed ones aside.
    pub runs: u32,
}

fn run_of(row: &Row<'_>) -> rusqlite::Result<Run> {
    let text = |index: usize| row.get::<_, String>(index);
    Ok(Run {
        id: row.get(0)?,
        plan: row.get(1)?,
        verb: row.get(2)?,
        place: row.get(3)?,
        by: By::from_name(&text(4)?),
        due: row.get(5)?,
        started: row.get(6)?,
        ended: row.get(7)?,
        outcome: Outcome::from_name(&text(8)?),
        cancel: row.get(9)?,
        progress: row.get(10)?,
        report: Report::from_json(&text(11)?),
    })
}

impl History {
    /// The run of this number.
    pub fn run(&self, id: RunId) -> Result<Run, Problem> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE id = ?1");
        let found = self.read(|c| c.query_row(&sql, [id], run_of).optional())?;
        found.ok_or_else(|| {
            Problem::new(Class::NoSuchPath, format!("there is no run {id}"))
                .hint("to see those that there are: holdfast runs")
        })
    }

    /// Runs, the newest first.
    pub fn runs(&self, page: &Page) -> Result<Vec<Run>, Problem> {
        let sql = format!(
            "SELECT {COLUMNS} FROM runs
             WHERE (?1 IS NULL OR plan = ?1) AND (?2 IS NULL OR verb = ?2)
               AND (?3 IS NULL OR outcome = ?3) AND (?4 IS NULL OR id < ?4)
               AND (?5 IS NULL OR started >= ?5) AND (?6 IS NULL OR place = ?6)
             ORDER BY id DESC LIMIT ?7"
        );
        let limit = page.limit.map_or(-1, i64::from);
        let outcome = page.outcome.map(Outcome::name);
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let of =
                params![page.plan, page.verb, outcome, page.before, page.since, page.place, limit];
            let rows = statement.query_map(of, run_of)?;
            rows.collect()
        })
    }

    /// Runs that are still to end, the oldest first.
    pub fn open_runs(&self) -> Result<Vec<Run>, Problem> {
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE outcome IN ('queued', 'running') ORDER BY id"
        );
        self.read(|c| c.prepare_cached(&sql)?.query_map([], run_of)?.collect())
    }

    /// The last run of a plan and verb that ended, missed ones aside; with `good`, the last that
    /// ended well.
    pub fn last(&self, plan: &str, verb: &str, good: bool) -> Result<Option<Run>, Problem> {
        let outcomes = match good {
            true => "'ok', 'warnings'",
            false => "'ok', 'warnings', 'failed', 'cancelled', 'interrupted'",
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE plan = ?1 AND verb = ?2 AND outcome IN ({outcomes})
             ORDER BY id DESC LIMIT 1"
        );
        self.read(|c| c.query_row(&sql, [plan, verb], run_of).optional())
    }

    /// The newest run that checked a repository, as the history shows it, by itself or as a part of a
    /// plan's; with `good`, the newest that ended well.
    pub fn last_check(&self, place: &str, good: bool) -> Result<Option<Run>, Problem> {
        let sql = format!(
            "SELECT {COLUMNS} FROM runs
             WHERE place = ?1 AND (?2 = 0 OR outcome IN ('ok', 'warnings'))
               AND (verb = 'check' OR report ->> '$.numbers.snapshots_checked' IS NOT NULL)
             ORDER BY id DESC LIMIT 1"
        );
        self.read(|c| c.query_row(&sql, params![place, good], run_of).optional())
    }

    /// The number of the last line of a run's log; 0 if it has none.
    pub fn last_line(&self, run: RunId) -> Result<i64, Problem> {
        let sql = "SELECT coalesce(max(line), 0) FROM log WHERE run = ?1";
        self.read(|c| c.query_row(sql, [run], |row| row.get(0)))
    }

    /// The log of a run from line `from` on (0 for all), at most `limit` lines: each with its
    /// number, which counts from 1.
    pub fn log_lines(
        &self,
        run: RunId,
        from: i64,
        limit: Option<u32>,
    ) -> Result<Vec<(i64, LogLine)>, Problem> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT line, time, level, text FROM log WHERE run = ?1 AND line >= ?2
                 ORDER BY line LIMIT ?3",
            )?;
            let rows =
                statement.query_map(params![run, from, limit.map_or(-1, i64::from)], |row| {
                    let level = Level::from_name(&row.get::<_, String>(2)?);
                    Ok((row.get(0)?, LogLine { time: row.get(1)?, level, text: row.get(3)? }))
                })?;
            rows.collect()
        })
    }

    /// What channels were told, the newest first, at most `limit` of it.
    pub fn deliveries(&self, limit: Option<u32>) -> Result<Vec<Delivery>, Problem> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT time, channel, event, plan, run, error FROM deliveries
                 ORDER BY id DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([limit.map_or(-1, i64::from)], |row| {
                Ok(Delivery {
                    time: row.get(0)?,
                    channel: row.get(1)?,
                    event: row.get(2)?,
                    plan: row.get(3)?,
                    run: row.get(4)?,
                    error: row.get(5)?,
                })
            })?;
            rows.collect()
        })
    }

    /// The last `count` days of a plan's runs of a verb, today last.
    pub fn days(
        &self,
        plan: &str,
        verb: &str,
        count: u32,
        now: i64,
        zone: &TimeZone,
    ) -> Result<Vec<Day>, Problem> {
        let date_of = |nanos: i64| {
            let time =
                Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
            time.to_zoned(zone.clone()).date()
        };
        let today = date_of(now);
        let mut days = Vec::new();
        let mut date = today;
        for _ in 0..count {
            days.push(Day { date, outcome: None, runs: 0 });
            let Ok(before) = date.yesterday() else { break };
            date = before;
        }
        days.reverse();
        let first = days.first().and_then(|day| day.date.to_zoned(zone.clone()).ok());
        let since = first.and_then(|day| i64::try_from(day.timestamp().as_nanosecond()).ok());
        let sql = "SELECT started, ended, outcome FROM runs
                   WHERE plan = ?1 AND verb = ?2 AND coalesce(ended, started) >= ?3 ORDER BY id";
        let rows: Vec<(i64, Option<i64>, String)> = self.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![plan, verb, since.unwrap_or(0)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            rows.collect()
        })?;
        for (started, ended, outcome) in rows {
            let outcome = Outcome::from_name(&outcome);
            let first = date_of(started);
            let last =
                if outcome == Outcome::Missed { date_of(ended.unwrap_or(started)) } else { first };
            for day in days.iter_mut().filter(|day| (first..=last).contains(&day.date)) {
                match (outcome, day.outcome) {
                    (Outcome::Missed, Some(_)) => {}
                    (Outcome::Missed, None) => day.outcome = Some(outcome),
                    _ => {
                        day.outcome = Some(outcome);
                        day.runs += 1;
                    }
                }
            }
        }
        Ok(days)
    }
}
