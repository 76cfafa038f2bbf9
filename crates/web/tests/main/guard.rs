//! Who is let in, and what is refused, whatever a browser or a program sends.

use super::site::{Result, Site};

#[test]
fn a_one_time_address_works_once() -> Result {
    let site = Site::new()?;
    let url = site.console.one_time_url()?;
    let path = url.replace(&format!("http://{}", site.console.address()), "");
    let first = site.get(&path, "")?;
    assert_eq!(first.status, 200);
    let cookie = first.header("set-cookie").ok_or("no cookie")?;
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert_eq!(site.get(&path, "")?.status, 401);
    assert_eq!(site.get("/", "")?.status, 401);
    assert_eq!(site.get("/events?topics=x", "")?.status, 401);
    let session = cookie.split(';').next().ok_or("empty")?;
    assert_eq!(site.get("/storages", session)?.status, 200);
    Ok(())
}

#[test]
fn a_foreign_name_that_points_here_is_refused() -> Result {
    let site = Site::new()?;
    let (cookie, _) = site.sign_in()?;
    for host in ["evil.example", "127.0.0.1", "evil.example:80", "127.0.0.1:1"] {
        let request = format!(
            "GET /storages HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(site.raw(&request)?.status, 403, "{host}");
    }
    let port = site.console.address().port();
    let request = format!(
        "GET /storages HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(site.raw(&request)?.status, 200);
    Ok(())
}

#[test]
fn a_change_needs_our_origin_and_the_sessions_token() -> Result {
    let site = Site::new()?;
    let (cookie, token) = site.sign_in()?;
    let form = format!("theme=dark&csrf={token}");
    let status = |headers: &str, form: &str| -> Result<u16> {
        Ok(site.post("/appearance", &format!("Cookie: {cookie}\r\n{headers}"), form)?.status)
    };
    assert_eq!(status("", &form)?, 303);
    assert_eq!(status("Origin: http://HOST\r\nSec-Fetch-Site: same-origin\r\n", &form)?, 303);
    assert_eq!(status(&format!("x-csrf: {token}\r\n"), "theme=dark")?, 303);
    assert_eq!(status("Origin: http://evil.example\r\n", &form)?, 403);
    assert_eq!(status("Origin: null\r\n", &form)?, 403);
    assert_eq!(status("Sec-Fetch-Site: cross-site\r\n", &form)?, 403);
    assert_eq!(status("Sec-Fetch-Site: same-site\r\n", &form)?, 403);
    assert_eq!(status("", "theme=dark")?, 403);
    assert_eq!(status("", "theme=dark&csrf=")?, 403);
    // The token of another session is no better than none.
    let (_, other) = site.sign_in()?;
    assert_eq!(status("", &format!("theme=dark&csrf={other}"))?, 403);
    let answer = site.post("/appearance", "", &form)?;
    assert_eq!(answer.status, 401);
    Ok(())
}

#[test]
fn every_answer_keeps_foreign_code_out() -> Result {
    let site = Site::new()?;
    let (cookie, _) = site.sign_in()?;
    for path in ["/storages", "/nowhere", "/assets/console.js", "/assets/none"] {
        let answer = site.get(path, &cookie)?;
        let policy = answer.header("content-security-policy").ok_or("no policy")?;
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "{path}");
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"), "{path}");
    }
    assert_eq!(site.get("/", &cookie)?.header("cache-control"), Some("no-store"));
    assert_eq!(site.get("/nowhere", &cookie)?.status, 404);
    Ok(())
}

#[test]
fn assets_are_kept_under_an_address_of_their_content() -> Result {
    let site = Site::new()?;
    let page = site.get("/storages", &site.sign_in()?.0)?.body;
    let url = page.split('"').find(|part| part.starts_with("/assets/console.css?v="));
    let answer = site.get(url.ok_or("no style sheet")?, "")?;
    assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let tag = answer.header("etag").ok_or("no tag")?;
    let old = site.get("/assets/console.css?v=0", "")?;
    assert_eq!(old.header("cache-control"), Some("no-cache"));
    let again = site.raw(&format!(
        "GET /assets/console.css HTTP/1.1\r\nHost: HOST\r\nIf-None-Match: {tag}\r\nConnection: close\r\n\r\n"
    ))?;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    Ok(())
}
