//! Reading a schedule's text. The errors say what is wrong with which word.

use jiff::civil::{Time, Weekday};

use super::{DAYS, LAST, Rule, cron};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

pub(super) fn rule(text: &str) -> Result<Rule, String> {
    let lower = text.trim().to_ascii_lowercase();
    let text = lower.as_str();
    let first = text.split_whitespace().next().unwrap_or_default();
    let rest = text.strip_prefix(first).unwrap_or_default().trim();
    match first {
        "" => Err("it is empty".into()),
        "cron" => Ok(Rule::Cron(Box::new(cron(rest)?), words(rest).join(" "))),
        "hourly" => hourly(rest),
        "daily" => Ok(Rule::Days { days: 1, at: at(rest)? }),
        "weekdays" => {
            let on = DAYS.iter().map(|(_, day)| *day).take(5).collect();
            Ok(Rule::Weekly { on, at: at(rest)? })
        }
        "weekly" => {
            let (days, times) = on(rest, "weekly on sun at 03:00")?;
            Ok(Rule::Weekly { on: weekdays(days)?, at: at(times)? })
        }
        "monthly" => {
            let (days, times) = on(rest, "monthly on 1 at 04:00")?;
            Ok(Rule::Monthly { on: month_days(days)?, at: at(times)? })
        }
        "every" => every(rest),
        _ if words(text).len() == 5
            && first.starts_with(|c: char| c == '*' || c.is_ascii_digit()) =>
        {
            Err(format!("if it is meant for cron, write cron {text}"))
        }
        other => Err(format!("{other} is none of its words")),
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn hourly(rest: &str) -> Result<Rule, String> {
    if rest.is_empty() {
        return Ok(Rule::Every { minutes: 60, past: 0 });
    }
    let minute = rest.strip_prefix("at").map(str::trim).and_then(|text| text.strip_prefix(':'));
    let past = minute.and_then(|text| text.parse().ok()).filter(|minute| *minute < 60);
    let past = past.ok_or("write hourly at :15 for a quarter past each hour")?;
    Ok(Rule::Every { minutes: 60, past })
}

fn every(rest: &str) -> Result<Rule, String> {
    const FORM: &str = "write every 15 minutes, every 6 hours or every 2 days at 02:30";
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let number: u16 = match number {
        "" => 1,
        digits => digits.parse().map_err(|_| FORM)?,
    };
    let after = after.trim();
    let unit = after.split_whitespace().next().ok_or(FORM)?;
    let rest = after.strip_prefix(unit).unwrap_or_default().trim();
    if number == 0 {
        return Err("every 0 is never".into());
    }
    let per = match unit {
        "minute" | "minutes" | "min" => 1,
        "hour" | "hours" | "h" => 60,
        "day" | "days" if number <= 366 => {
            return Ok(Rule::Days { days: number, at: at(rest)? });
        }
        "day" | "days" => return Err("at most every 366 days".into()),
        "week" | "weeks" | "month" | "months" => {
            return Err("write weekly on sun at 03:00 or monthly on 1 at 04:00".into());
        }
        _ => return Err(FORM.into()),
    };
    if !rest.is_empty() {
        return Err(format!("{rest:?} has no place here: it runs from midnight on"));
    }
    match number.checked_mul(per).filter(|minutes| *minutes < DAY) {
        Some(minutes) => Ok(Rule::Every { minutes, past: 0 }),
        None => Err("write daily at 02:30 or every 2 days at 02:30".into()),
    }
}

/// `on DAYS at TIMES`: the two parts, the second with its `at`.
fn on<'a>(rest: &'a str, form: &str) -> Result<(&'a str, &'a str), String> {
    let rest = rest.strip_prefix("on ").ok_or(format!("it lacks its days: {form}"))?;
    let end = rest.find(" at ").unwrap_or(rest.len());
    Ok(rest.split_at_checked(end).unwrap_or((rest, "")))
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty() && *word != "and")
}

fn weekdays(text: &str) -> Result<Vec<Weekday>, String> {
    let mut found = Vec::new();
    for word in list(text) {
        let is_short = word.len() >= 3;
        let day = DAYS.iter().find(|(name, day)| {
            let whole = format!("{day:?}").to_ascii_lowercase();
            is_short && word.starts_with(name) && whole.starts_with(word)
        });
        let (_, day) = day.ok_or(format!("{word} is no day of the week: mon, tue, …, sun"))?;
        found.push(*day);
    }
    if found.is_empty() {
        return Err("it lacks its days: weekly on sun at 03:00".into());
    }
    found.sort_by_key(|day| day.to_monday_zero_offset());
    found.dedup();
    Ok(found)
}

fn month_days(text: &str) -> Result<Vec<i8>, String> {
    let mut found = Vec::new();
    for word in list(text) {
        let plain = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let day = match word {
            "last" => Some(LAST),
            _ if matches!(word.strip_prefix(plain), Some("" | "st" | "nd" | "rd" | "th" | ".")) => {
                plain.parse().ok().filter(|day| (1..=31).contains(day))
            }
            _ => None,
        };
        found.push(day.ok_or(format!("{word} is no day of the month: 1 to 31, or last"))?);
    }
    if found.is_empty() {
        return Err("it lacks its days: monthly on 1 at 04:00".into());
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// `at 02:30`, or nothing for midnight.
fn at(text: &str) -> Result<Vec<Time>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(vec![Time::midnight()]);
    }
    let times = text
        .strip_prefix("at ")
        .ok_or(format!("{text:?} has no place here; a time is written at 02:30"))?;
    let mut found = Vec::new();
    for word in times.replace(" and ", ",").split(',') {
        found.push(
            time(word.trim())
                .ok_or(format!("{:?} is no time of the day: 02:30, 2:30 pm, 12am", word.trim()))?,
        );
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// `02:30`, `2:30pm`, `2 pm`, `12am` for midnight.
fn time(text: &str) -> Option<Time> {
    let half = |suffix: &str| text.strip_suffix(suffix).map(str::trim_end);
    let (clock, afternoon) = match (half("am"), half("pm")) {
        (Some(clock), _) => (clock, Some(false)),
        (_, Some(clock)) => (clock, Some(true)),
        _ => (text, None),
    };
    let (hour, minute) = match clock.split_once(':') {
        Some((hour, minute)) if minute.len() == 2 => (hour, minute),
        None if afternoon.is_some() => (clock, "00"),
        _ => return None,
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let hour: i8 = hour.parse().ok()?;
    let hour = match afternoon {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
    };
    Time::new(hour, minute.parse().ok()?, 0, 0).ok()
}
