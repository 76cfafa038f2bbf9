//! Retention: the rules that say which snapshots stay, as the command line and the plans of the
//! configuration write them. What the rules make of a list of snapshots is in [`policy`], how
//! snapshots are put into groups in [`group`].

use std::fmt;

use jiff::{Span, Zoned};

use crate::problem::Problem;

pub mod group;
pub mod policy;
#[cfg(test)]
mod tests;

pub use group::{GroupBy, GroupKey};
pub use policy::{Decision, Group, Question, Reason, decide};

/// A calendar period of which one snapshot may stay. Weeks begin on Monday (ISO 8601).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// One of each hour.
    Hourly,
    /// One of each day.
    Daily,
    /// One of each week.
    Weekly,
    /// One of each month.
    Monthly,
    /// One of each year.
    Yearly,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] =
        [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// Its name in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

/// How many snapshots a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many; never 0.
    Some(u32),
    /// As many as there are.
    All,
}

impl Count {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        match text.parse() {
            Ok(0) => Err("0 keeps nothing: leave the rule out".into()),
            Ok(number) => Ok(Self::Some(number)),
            Err(_) => Err("write a number of snapshots, or all".into()),
        }
    }

    /// Whether `kept` are fewer.
    fn exceeds(self, kept: u32) -> bool {
        match self {
            Self::Some(number) => kept < number,
            Self::All => true,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Some(number) => number.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

/// A stretch of calendar time: `1y5m7d2h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Age {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u16,
}

impl Age {
    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write years, months, weeks, days and hours: 1y, 6m, 2w, 30d, 12h, 1y6m";
        let mut age = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?;
            let (number, after) = rest.split_at(end);
            let mut letters = after.chars();
            let field = match letters.next() {
                Some('y') => &mut age.years,
                Some('m') => &mut age.months,
                Some('w') => &mut age.weeks,
                Some('d') => &mut age.days,
                Some('h') => &mut age.hours,
                _ => return Err(FORM.into()),
            };
            if *field != 0 {
                return Err("a unit is written twice".into());
            }
            *field = number.parse().map_err(|_| FORM)?;
            rest = letters.as_str();
        }
        if age == Self::default() {
            return Err(FORM.into());
        }
        Ok(age)
    }

    /// The moment that lies so long before `end`, by the calendar of its time zone. `None` if that
    /// is before all time.
    fn before(&self, end: &Zoned) -> Option<Zoned> {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_weeks(self.weeks))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours));
        end.checked_sub(span.ok()?).ok()
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.weeks, 'w'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// Which snapshots of each group stay. A snapshot stays if any rule keeps it. The default has no
/// rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest ones.
    pub last: Option<Count>,
    /// The newest of each of the newest periods that have one, in the order of [`Period::ALL`].
    pub periods: [Option<Count>; 5],
    /// All that are at most this much older than the newest.
    pub within: Option<Age>,
    /// The newest of each period among those at most this much older than the newest.
    pub periods_within: [Option<Age>; 5],
    /// All that have all the tags of one of these lists.
    pub tags: Vec<Vec<String>>,
}

impl Retention {
    /// The names that [`set`](Self::set) knows, in the order in which they are written.
    pub const NAMES: [&str; 13] = [
        "last",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "within",
        "within-hourly",
        "within-daily",
        "within-weekly",
        "within-monthly",
        "within-yearly",
        "tag",
    ];

    /// Sets the rule of this name, or adds to the tags. Counts are numbers or `all`, ages are
    /// written as `1y6m`, tags with commas between those that must be there together.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let value = value.trim();
        if !Self::NAMES.contains(&name) {
            let shown = crate::text::printable(name.as_bytes());
            let problem = Problem::usage(format!("there is no rule {shown}"));
            let names = Self::NAMES.iter().map(ToString::to_string);
            return Err(match crate::config::keys::nearest_of(name, names) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => problem.hint(format!("a rule is one of {}", Self::NAMES.join(", "))),
            });
        }
        self.try_set(name, value).map_err(|what| {
            Problem::usage(format!("the rule {name} cannot be {value:?}")).hint(what)
        })
    }

    fn try_set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let period = |name: &str| Period::ALL.iter().position(|period| period.name() == name);
        match name {
            "last" => self.last = Some(Count::parse(value)?),
            "within" => self.within = Some(Age::parse(value)?),
            "tag" => {
                let tags = value.split(',').map(|tag| tag.trim().to_owned());
                let tags: Vec<_> = tags.filter(|tag| !tag.is_empty()).collect();
                if tags.is_empty() {
                    return Err("write a tag, or several with commas between them".into());
                }
                self.tags.push(tags);
            }
            _ => {
                let within = name.strip_prefix("within-");
                let place = period(within.unwrap_or(name));
                let count = place.and_then(|place| self.periods.get_mut(place));
                let age = place.and_then(|place| self.periods_within.get_mut(place));
                match (within, count, age) {
                    (None, Some(count), _) => *count = Some(Count::parse(value)?),
                    (Some(_), _, Some(age)) => *age = Some(Age::parse(value)?),
                    _ => {
                        return Err(format!("no rule has that name: {}", Self::NAMES.join(", ")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The rules as [`set`](Self::set) takes them.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut add = |name: String, value: Option<String>| {
            pairs.extend(value.map(|value| (name, value)));
        };
        add("last".into(), self.last.map(|count| count.to_string()));
        for (period, count) in Period::ALL.iter().zip(&self.periods) {
            add(period.name().into(), count.map(|count| count.to_string()));
        }
        add("within".into(), self.within.map(|age| age.to_string()));
        for (period, age) in Period::ALL.iter().zip(&self.periods_within) {
            add(format!("within-{}", period.name()), age.map(|age| age.to_string()));
        }
        for tags in &self.tags {
            add("tag".into(), Some(tags.join(",")));
        }
        pairs
    }
}
