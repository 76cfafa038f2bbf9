//! How much room there is at a place.

use std::path::Path;

use holdfast_connectors::local::destination::LocalDestinationOptions;

use crate::access::Access;
use crate::catalogue;
use crate::location::absolute;
use crate::open::open_destination;
use crate::problem::Problem;
use crate::resolve::{Place, Resolved};

/// Bytes that are free at a place; `None` where it does not tell, as buckets do not. Nothing is made
/// there.
pub fn free(place: &Resolved, access: &Access) -> Result<Option<u64>, Problem> {
    match &place.place {
        Place::Local(path) => {
            let path = absolute(path);
            // It may be still to be made.
            let there = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
            let stat = rustix::fs::statvfs(there);
            let stat = stat.map_err(|e| catalogue::io("measure", there, &e.into()))?;
            Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
        }
        Place::Sftp(_) => {
            let there = open_destination(place, LocalDestinationOptions::default(), access)?;
            there.free_space().map_err(|e| catalogue::explain(&e.into(), None))
        }
        Place::S3(_) | Place::Stream => Ok(None),
    }
}
