//! `repair`: makes good what can be made good. [`index`] lists packs that no segment lists, as
//! their own directories tell; [`packs`] stores anew what can be had of damaged packs, by itself,
//! by their parity ([`parity`] makes it) or from a second repository; [`snapshots`] writes whole
//! snapshots beside those of which something is lost for good. Nothing is ever deleted, so that a
//! better cure stays possible.

use crate::format::config::Config;
use crate::repo::Repository;
use crate::{Error, Result};

mod donor;
mod index;
mod packs;
mod parity;
mod rebuild;
mod snapshots;

pub use donor::Donated;
pub use index::{RepairIndexOptions, RepairIndexReport, index};
pub use packs::{RepairPacksOptions, RepairPacksReport, RepairedPack, packs};
pub use parity::{RepairParityOptions, RepairParityReport, parity};
pub use rebuild::Cut;
pub use snapshots::{RepairSnapshotsOptions, RepairSnapshotsReport, Repaired, snapshots};

/// An error if this program may not repair here.
fn check_features(repository: &Repository) -> Result<()> {
    let config = repository.config();
    for list in [&config.features_write, &config.features_check] {
        if let Some(feature) = Config::unknown_feature(list) {
            let what = format!("feature {feature}");
            return Err(Error::NewerFormat { location: repository.location(), what });
        }
    }
    Ok(())
}
