//! Tests of the connectors, one module for each room.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what is left out, and figures")]

mod destination;
mod repositories;
mod s3_client;
mod s3_destination;
mod s3_source;
mod s3_storage;
mod s3_storage_engine;
mod sftp_client;
mod sftp_client_faults;
mod sftp_client_fuzz;
mod sftp_client_network;
mod sftp_client_transfers;
mod sftp_destination;
mod sftp_source;
mod sftp_source_backup;
mod sftp_source_hostile;
mod sftp_storage;
mod sftp_storage_engine;
mod sftp_storage_faults;
mod sftp_storage_speed;
mod source;
mod ssh;
mod storage;

/// On tmpfs where there is one: fsync costs nothing there.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs one test of this binary, marked `#[ignore]`, as a user who owns nothing, in `directory`.
fn as_nobody(test: &str, directory: &std::path::Path) {
    use std::os::unix::process::CommandExt;
    let copy = directory.join("test-binary");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let output = std::process::Command::new(&copy)
        .args([test, "--exact", "--ignored"])
        .env("HOLDFAST_TEST_DIRECTORY", directory)
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
