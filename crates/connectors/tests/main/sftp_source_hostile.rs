//! Servers that are not like OpenSSH's: OpenSSH's own, with its listings changed on their way by
//! this very program, which the SSH server starts in its place.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::source::SftpSourceOptions;
use holdfast_engine::source::SourceError;
use holdfast_testkit::SshdOptions;

use crate::scratch;
use crate::sftp_source::{Server, batches, source};

const MODE: &str = "HOLDFAST_TEST_LISTINGS";
const VERSION: u8 = 2;
const NAME: u8 = 104;

/// Not a test: the server that the others start.
#[test]
#[ignore = "started by other tests"]
fn serve() {
    let mode = std::env::var(MODE).unwrap();
    let mut server = Command::new(crate::sftp_client::server_program())
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut from = server.stdout.take().unwrap();
    // Where the harness does not write.
    let mut to = fs::OpenOptions::new().write(true).open("/dev/fd/3").unwrap();
    let mut head = [0; 4];
    while from.read_exact(&mut head).is_ok() {
        let mut packet = vec![0; u32::from_be_bytes(head) as usize];
        from.read_exact(&mut packet).unwrap();
        match packet[0] {
            // No extensions.
            VERSION => packet.truncate(5),
            NAME => packet = change(&packet, &mode),
            _ => {}
        }
        to.write_all(&(packet.len() as u32).to_be_bytes()).unwrap();
        to.write_all(&packet).unwrap();
    }
    server.wait().unwrap();
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = from.split_at(length);
    *from = rest;
    taken
}

fn number(from: &mut &[u8]) -> u32 {
    u32::from_be_bytes(take(from, 4).try_into().unwrap())
}

fn change(packet: &[u8], mode: &str) -> Vec<u8> {
    let mut rest = &packet[5..];
    let mut entries = Vec::new();
    for _ in 0..number(&mut rest) {
        let length = number(&mut rest) as usize;
        let name = take(&mut rest, length).to_vec();
        let length = number(&mut rest) as usize;
        take(&mut rest, length);
        let start = rest;
        let flags = number(&mut rest);
        let lengths = [(1, 8), (2, 8), (4, 4), (8, 8)];
        let length = lengths.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, l)| l).sum();
        take(&mut rest, length);
        let attributes = start[..4 + length].to_vec();
        entries.push((name, attributes));
    }
    match mode {
        "bare" => entries.iter_mut().for_each(|(_, attributes)| *attributes = vec![0; 4]),
        "twice" => {
            let again = entries.iter().filter(|(name, _)| name == b"b").cloned();
            entries.extend(again.collect::<Vec<_>>());
        }
        "slash" => {
            for (name, _) in entries.iter_mut().filter(|(name, _)| name == b"b") {
                *name = b"../b".to_vec();
            }
        }
        other => panic!("{other}"),
    }
    let mut changed = packet[..5].to_vec();
    changed.extend((entries.len() as u32).to_be_bytes());
    for (name, attributes) in entries {
        changed.extend((name.len() as u32).to_be_bytes());
        changed.extend(name);
        changed.extend(0_u32.to_be_bytes());
        changed.extend(attributes);
    }
    changed
}

/// A server that runs [`serve`]; `script` is where to put what starts it.
fn server(mode: &str, script: &Path) -> Server {
    let program = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nexec 3>&1 >/dev/null\n{MODE}={mode} exec {} {} --exact --ignored --nocapture\n",
        program.display(),
        "sftp_source_hostile::serve"
    );
    fs::write(script, text).unwrap();
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    let subsystem = Some(script.display().to_string());
    Server::with(SshdOptions { subsystem, ..SshdOptions::default() })
}

/// Errors, and names found.
fn walk(mode: &str, options: SftpSourceOptions) -> (Vec<String>, Vec<String>, u64) {
    let directory = scratch();
    let server = server(mode, &directory.path().join("script"));
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("d")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(root.join("d").join(name), name).unwrap();
    }
    let pool = server.pool();
    let source = source(&pool, &root, options);
    let batches = batches(&source).unwrap();
    let errors = batches.iter().flat_map(|batch| batch.errors.iter().map(SourceError::text));
    let names = batches.iter().flat_map(|batch| &batch.entries);
    let names = names.map(|entry| {
        assert!(entry.metadata.owner.user.is_empty(), "no extension for names");
        String::from_utf8_lossy(&entry.name).into_owned()
    });
    (errors.collect(), names.collect(), pool.recorder().requests(Operation::Lstat))
}

#[test]
fn listings_without_attributes() {
    let (errors, names, looks) = walk("bare", SftpSourceOptions::default());
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(names, ["", "d", "a", "b", "c"]);
    // The root, both directories when listed, and each entry.
    assert_eq!(looks, 7);
    let excludes = vec!["b".into(), "d/c".into()];
    let (_, names, _) = walk("bare", SftpSourceOptions { excludes, ..Default::default() });
    assert_eq!(names, ["", "d", "a"]);
}

#[test]
fn names_that_come_twice() {
    let (errors, names, _) = walk("twice", SftpSourceOptions::default());
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].ends_with("/d/b: the server listed it twice"), "{errors:?}");
    assert_eq!(names, ["", "d", "a", "b", "c"]);
}

#[test]
fn names_that_lead_elsewhere() {
    let (errors, names, _) = walk("slash", SftpSourceOptions::default());
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("/d") && errors[0].contains("a slash"), "{errors:?}");
    // Nothing of that listing is believed.
    assert_eq!(names, ["", "d"]);
}
