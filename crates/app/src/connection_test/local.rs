//! The test of a directory of this machine.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::{Outcome, SPEED, Steps, came_back_changed, noise, rate, unique};
use crate::catalogue;
use crate::problem::Problem;
use crate::text::size;

pub(super) fn test(path: &Path, steps: &Steps<'_>) -> Result<(), Problem> {
    steps.begin("directory");
    if path.is_file() {
        std::fs::File::open(path).map_err(|e| catalogue::io("read", path, &e))?;
        steps.end(Outcome::Limited, "a file: it can be a source, and nothing else");
        return Ok(());
    }
    let directory = path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    std::fs::read_dir(directory).map_err(|e| catalogue::io("list", directory, &e))?;
    let shown = path.display();
    steps.pass(match directory == path {
        true => shown.to_string(),
        false => format!("{shown} is not there yet; {} is", directory.display()),
    });
    steps.begin("write");
    let unique = unique()?;
    let (one, two) =
        (directory.join(format!(".tmp-{unique}")), directory.join(format!(".tmp-{unique}b")));
    let bytes = noise(SPEED);
    let since = Instant::now();
    let written = || -> std::io::Result<()> {
        let mut file = std::fs::File::create_new(&one)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    let probe = || -> Result<(), Problem> {
        match written() {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                steps.end(Outcome::Limited, "not allowed: it can be a source, and nothing else");
                return Ok(());
            }
            other => other.map_err(|e| catalogue::io("write", &one, &e))?,
        }
        steps.pass(rate(bytes.len(), since.elapsed()));
        steps.begin("read");
        let since = Instant::now();
        let read = std::fs::read(&one).map_err(|e| catalogue::io("read", &one, &e))?;
        if read != bytes {
            return Err(came_back_changed(&one.display().to_string()));
        }
        steps.pass(rate(bytes.len(), since.elapsed()));
        steps.begin("rename");
        std::fs::rename(&one, &two).map_err(|e| catalogue::io("rename", &one, &e))?;
        steps.begin("delete");
        std::fs::remove_file(&two).map_err(|e| catalogue::io("delete", &two, &e))
    };
    let outcome = probe();
    if outcome.is_err() {
        let _ = std::fs::remove_file(&one);
        let _ = std::fs::remove_file(&two);
    }
    outcome?;
    steps.begin("free space");
    match rustix::fs::statvfs(directory) {
        Ok(found) => {
            let bytes = |blocks: u64| size(blocks.saturating_mul(found.f_frsize));
            steps.pass(format!("{} of {}", bytes(found.f_bavail), bytes(found.f_blocks)));
        }
        Err(_) => steps.end(Outcome::Limited, "the file system does not tell"),
    }
    Ok(())
}
