//! What leaves a snapshot through the API: files, archives, and what differs between two of them.

use std::io::Read;

use serde_json::json;

use super::{Program, site};
use crate::site::{Answer, Result, Site};
use crate::stored::{Stored, key};

/// A download, with its bytes.
fn get(site: &Site, path: &str, token: &str) -> Result<(Answer, Vec<u8>)> {
    let path = format!("/api/v1/storages/attic/snapshots/{path}");
    site.bytes(&path, &format!("a=b\r\nAuthorization: Bearer {token}"))
}

#[test]
fn a_file_and_archives_are_downloaded_as_what_they_are() -> Result {
    let (site, stored) = site()?;
    let program = Program::new(&site, "restore")?;
    let get = |path: &str| get(&site, path, &program.token);
    let folder = key(&stored.files);
    let (answer, bytes) = get(&format!("latest/download?path={folder}/evil.html"))?;
    assert_eq!(answer.status, 200);
    assert_eq!(bytes, std::fs::read(stored.files.join("evil.html"))?);
    assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
    // Nothing of it can run as a page of ours.
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let named = answer.header("content-disposition").unwrap_or_default();
    assert!(named.starts_with("attachment; filename=\"evil.html\""), "{named}");
    assert!(answer.header("content-security-policy").is_some_and(|p| p.contains("sandbox")));
    // Archives.
    let picked = format!("path={folder}&include={folder}/Letters&include={folder}/budget.csv");
    for (format, kind, begin) in [
        ("zip", "application/zip", &b"PK\x03\x04"[..]),
        ("tar.zst", "application/zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ] {
        let (answer, bytes) = get(&format!("latest/archive?format={format}&{picked}"))?;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        assert!(bytes.starts_with(begin), "{format}");
        let named = answer.header("content-disposition").unwrap_or_default();
        assert!(named.contains(&format!("filename=\"anna.{format}\"")), "{named}");
    }
    let (answer, bytes) = get(&format!("latest/archive?format=tar&{picked}"))?;
    assert_eq!(answer.header("content-type"), Some("application/x-tar"));
    let to = site.home().join("unpacked");
    std::fs::create_dir(&to)?;
    std::fs::write(to.join("a.tar"), &bytes)?;
    let done =
        std::process::Command::new("tar").arg("-xf").arg("a.tar").current_dir(&to).status()?;
    assert!(done.success());
    let mut found: Vec<_> = walk(&to)?;
    found.sort();
    let ends = ["Letters/one.txt", "Letters/two.txt", "a.tar", "budget.csv"];
    assert_eq!(found.len(), ends.len(), "{found:?}");
    for end in ends.iter().filter(|end| **end != "a.tar") {
        let path = found.iter().find(|path| path.ends_with(end)).ok_or(*end)?;
        assert_eq!(std::fs::read(path)?, std::fs::read(stored.files.join(end))?, "{end}");
    }
    // What fails before the first byte says why.
    for (path, status, word) in [
        ("latest/download".to_owned(), 422, "which file"),
        (format!("latest/download?path={folder}"), 404, "no regular file"),
        (format!("latest/download?path={folder}/gone"), 404, "gone"),
        ("latest/download?path=x".to_owned(), 422, "not given from the root"),
        ("0000/download?path=/x".to_owned(), 404, "no snapshot 0000"),
        ("latest/archive?format=rar".to_owned(), 422, "rar is no format"),
        ("latest/archive?includes=/x".to_owned(), 422, "not asked for with includes"),
        ("latest/archive?path=/nowhere".to_owned(), 404, "nowhere"),
    ] {
        let (answer, bytes) = get(&path)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(answer.status, status, "{path}: {text}");
        assert!(text.contains(word) && text.contains("\"hints\""), "{path}: {text}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
    }
    let record = site.ask("GET", "/api/v1/record", &site.token("admin")?, "")?.1.to_string();
    assert!(record.contains("downloaded a file of attic"), "{record}");
    Ok(())
}

fn walk(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(walk(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

#[test]
fn an_archive_is_sent_while_it_is_made() -> Result {
    let site = Site::new()?;
    // More than a stream keeps ready: most of it cannot have been read before the first byte.
    let size = 24 << 20;
    let stored =
        Stored::with(&site, |files| Ok(std::fs::write(files.join("large"), vec![7; size])?))?;
    let program = Program::new(&site, "restore")?;
    let folder = key(&stored.files);
    let path = format!("latest/archive?format=tar&path={folder}/large");
    let (answer, bytes) = get(&site, &path, &program.token)?;
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert!(bytes.len() > size && bytes.bytes().filter(|b| matches!(b, Ok(7))).count() >= size);
    Ok(())
}

#[test]
fn what_differs_is_counted_for_all_and_named_for_those_who_may_see_it() -> Result {
    let (site, stored) = site()?;
    let program = Program::new(&site, "restore")?;
    let get = |path: &str| program.ask("GET", &format!("/storages/attic/{path}"), "");
    let all = stored.snapshots()?;
    let (oldest, newest) = (all.first().ok_or("none")?.id, all.last().ok_or("none")?.id);
    let (status, told) = get(&format!("compare?before={oldest}&after={newest}"))?;
    assert_eq!(status, 200, "{told}");
    assert_eq!(
        (&told["added"], &told["changed"], &told["removed"]),
        (&1.into(), &1.into(), &0.into())
    );
    // Without words: the latest, with the one before it.
    let told = get("compare")?.1;
    assert_eq!((&told["after"], &told["added"]), (&newest.to_string().into(), &1.into()));
    let folder = key(&stored.files);
    let two = format!("before={oldest}&after={newest}");
    let changes = get(&format!("changes?{two}"))?.1;
    let whole = changes["changes"].as_array().ok_or("no changes")?.clone();
    assert_eq!(changes["next"], json!(null));
    let named = |name: &str| {
        let path = json!(format!("{folder}/{name}"));
        whole.iter().find(|change| change["path"] == path).cloned().unwrap_or_default()
    };
    assert_eq!(
        (&named("added.txt")["change"], &named("added.txt")["size_before"]),
        (&"added".into(), &json!(null))
    );
    assert_eq!(
        (&named("budget.csv")["change"], &named("budget.csv")["content"]),
        (&"modified".into(), &true.into())
    );
    // Page by page it is the same.
    let mut paged = Vec::new();
    let mut from = json!(0);
    while !from.is_null() {
        let page = get(&format!("changes?{two}&limit=1&from={from}"))?.1;
        paged.extend(page["changes"].as_array().ok_or("no changes")?.clone());
        from = page["next"].clone();
        assert!(paged.len() < 100, "no end");
    }
    assert_eq!(paged, whole);
    let below = get(&format!("changes?{two}&path={folder}/added.txt"))?.1;
    assert_eq!(below["changes"].as_array().map(Vec::len), Some(1), "{below}");
    for (path, word) in [
        (format!("compare?after={oldest}"), "no snapshot of the same places before"),
        ("compare?after=0000".to_owned(), "no snapshot 0000"),
        ("compare?path=/x".to_owned(), "path"),
        (format!("changes?{two}&path=/nowhere"), "nowhere"),
        (format!("changes?{two}&limit=x"), "limit"),
    ] {
        let (status, answer) = get(&path)?;
        assert!(
            matches!(status, 404 | 422) && answer.to_string().contains(word),
            "{path}: {answer}"
        );
    }
    Ok(())
}
