//! `--warm-up`: has archived packs brought back before they are read.

use holdfast_app::text::{count, plural};
use holdfast_app::{Class, Problem};
use holdfast_engine::Error;
use holdfast_engine::repo::Repository;
use holdfast_engine::storage::{ObjectName, Warmth};

use crate::failure::Result;

/// Asks for packs to be readable for `days`. Fails as long as one of them is not.
pub(crate) fn bring_back(repository: &Repository, packs: &[ObjectName], days: u32) -> Result<()> {
    let warmth = repository.storage().warm_up(packs, days).map_err(Error::from)?;
    let Warmth { warm, cold, asked, wait } = warmth;
    if cold == 0 {
        return Ok(());
    }
    let text =
        format!("packs needed that are still archived: {} of {}", count(cold), count(warm + cold));
    let hours = wait.as_secs().div_ceil(60 * 60);
    let days = plural(days.into(), "day", "days");
    Err(Problem::new(Class::ColdObject, text)
        .cause(match asked {
            0 => "all of them are on their way back, as was asked for before".to_owned(),
            _ => format!("asked for now, to be readable for {days}: {}", count(asked)),
        })
        .hint(format!(
            "come back in about {}, and run the same command again",
            plural(hours, "hour", "hours")
        ))
        .into())
}
