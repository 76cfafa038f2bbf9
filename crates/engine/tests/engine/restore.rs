//! Restoring, against trees and storages in memory: round trips of every kind of entry, places
//! in the destination, policies about what is there already, damage, and interruptions.

mod failures;
pub(crate) mod fixture;
mod places;
mod policies;
mod round_trips;
