//! `--background`: the lowest priority for processor and disk, for all that this process does.

use std::process::{Command, Stdio};

/// The lowest priority for the processor.
const NICEST: i32 = 19;

/// Lowers the priorities. Before any thread is started: each has priorities of its own, which the
/// threads that it starts inherit.
pub(crate) fn begin() {
    // Nobody may be refused to give way; if the system does, the work is still to be done.
    let _ = rustix::process::setpriority_process(None, NICEST);
    // The kernel has no safe call for the disk's; where the tool is not there, what it derives from
    // the processor's serves: the lowest of those that do not have to wait until nobody else reads.
    let _ = Command::new("ionice")
        .args(["-c", "3", "-p", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
