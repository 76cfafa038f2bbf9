//! Restoring, against trees and storages in memory: round trips of every kind of entry, places
//! in the destination, policies about what is there already, damage, and interruptions.

#[path = "restore/failures.rs"]
mod failures;
#[path = "restore/fixture.rs"]
mod fixture;
#[path = "restore/places.rs"]
mod places;
#[path = "restore/policies.rs"]
mod policies;
#[path = "restore/round_trips.rs"]
mod round_trips;
