use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::problem::Class;
use crate::runs::{By, NewRun, Report};

type Test = Result<(), Box<dyn std::error::Error>>;

/// A server for one conversation after the other; what it was told comes out of the receiver.
fn serve(
    talk: impl Fn(&mut BufReader<TcpStream>) -> std::io::Result<String> + Send + 'static,
) -> Result<(String, Receiver<String>), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { break };
            let said = talk(&mut BufReader::new(stream)).unwrap_or_else(|e| e.to_string());
            if send.send(said).is_err() {
                break;
            }
        }
    });
    Ok((address, receive))
}

/// Answers requests with this status.
fn http(status: &'static str) -> Result<(String, Receiver<String>), Box<dyn std::error::Error>> {
    serve(move |stream| {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().unwrap_or(0);
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes())?;
        Ok(format!("{head}\n{}", String::from_utf8_lossy(&body)))
    })
}

/// Takes mail.
fn smtp() -> Result<(String, Receiver<String>), Box<dyn std::error::Error>> {
    serve(|stream| {
        stream.get_mut().write_all(b"220 here\r\n")?;
        let (mut said, mut in_data) = (String::new(), false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(said);
            }
            said.push_str(&line);
            let answer = match line.trim_end() {
                "." if in_data => {
                    in_data = false;
                    "250 taken\r\n"
                }
                _ if in_data => continue,
                "DATA" => {
                    in_data = true;
                    "354 go on\r\n"
                }
                "QUIT" => {
                    stream.get_mut().write_all(b"221 bye\r\n")?;
                    return Ok(said);
                }
                _ => "250 ok\r\n",
            };
            stream.get_mut().write_all(answer.as_bytes())?;
        }
    })
}

fn config(text: &str) -> Result<(tempfile::TempDir, Config, History), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text)?;
    let config = Config::load(&path, None)?;
    let history = History::open(&dir.path().join("state"))?;
    Ok((dir, config, history))
}

/// A run of the plan home that failed.
fn failed_run(history: &History) -> Result<Run, Problem> {
    let new = NewRun {
        plan: Some("home".into()),
        verb: "backup".into(),
        place: "@nas".into(),
        by: By::Schedule,
        due: None,
    };
    let run = history.begin(&new, &history.own()?, true)?;
    let problem = Problem::new(Class::Timeout, "the server does not answer").hint("look at it");
    let report = Report { problem: Some((&problem).into()), ..Report::default() };
    history.end(run, Outcome::Failed, &report)?;
    history.run(run)
}

#[test]
fn every_kind_of_channel_is_told_in_its_own_way() -> Test {
    let (web, told) = http("200 OK")?;
    let (mail, mailed) = smtp()?;
    let text = format!(
        "[channel.hook]\ntype = \"webhook\"\nurl = \"http://{web}/hook\"\ntoken = \"t0k\"\n\
         [channel.phone]\ntype = \"ntfy\"\nurl = \"http://{web}/topic\"\n\
         [channel.slack]\ntype = \"slack\"\nurl = \"http://{web}/slack\"\n\
         [channel.discord]\ntype = \"discord\"\nurl = \"http://{web}/discord\"\n\
         [channel.watch]\ntype = \"ping\"\nurl = \"http://{web}/ping/\"\n\
         [channel.mail]\ntype = \"mail\"\nserver = \"{mail}\"\nsecurity = \"none\"\n\
         from = \"Holdfast <a@example.com>\"\nto = [\"b@example.com\"]\n\
         [plan.home]\ntitle = \"Home\"\nsources = [\"/a\"]\nrepository = \"nas\"\n\
         notify = {{ hook = [\"failure\"], phone = [\"failure\"], slack = [\"failure\"], \
         discord = [\"failure\"], watch = [], mail = [\"failure\"] }}\n"
    );
    let (_dir, config, history) = config(&text)?;
    let run = failed_run(&history)?;
    tell(&config, &history, &run, Event::Failure)?;
    let mut all = String::new();
    for (path, part) in [
        ("/hook", "\"class\":\"timeout\""),
        ("/topic", "Why: the server does not answer"),
        ("/slack", "{\"text\":\"*Holdfast on"),
        ("/discord", "\"allowed_mentions\":{\"parse\":[]}"),
        ("/ping/fail", "backup of Home FAILED"),
    ] {
        let said = told.recv_timeout(Duration::from_secs(20))?;
        assert!(said.starts_with(&format!("POST {path} ")), "{path}: {said}");
        assert!(said.contains(part), "{path}: {said}");
        all.push_str(&said);
    }
    assert!(all.to_ascii_lowercase().contains("authorization: bearer t0k"));
    let said = mailed.recv_timeout(Duration::from_secs(20))?;
    assert!(said.contains("RCPT TO:<b@example.com>"), "{said}");
    assert!(said.contains("Home FAILED") && said.contains("Hint: look at it"), "{said}");
    let log = history.deliveries(None)?;
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|sent| sent.error.is_none() && sent.run == Some(run.id)), "{log:?}");
    Ok(())
}

#[test]
fn only_what_was_asked_for_is_told_but_a_dead_man_switch_hears_all() -> Test {
    let (web, told) = http("200 OK")?;
    let text = format!(
        "[channel.hook]\ntype = \"webhook\"\nurl = \"http://{web}/hook\"\n\
         [channel.watch]\ntype = \"ping\"\nurl = \"http://{web}/ping\"\n\
         [plan.home]\nsources = [\"/a\"]\nrepository = \"nas\"\n\
         notify = {{ hook = [\"missed\"], watch = [] }}\n"
    );
    let (_dir, config, history) = config(&text)?;
    let run = failed_run(&history)?;
    for event in Event::ALL {
        tell(&config, &history, &run, event)?;
    }
    // Of a gc that is done it hears nothing: that says nothing of the backup before it.
    let gc = Run { verb: "gc".into(), ..run };
    tell(&config, &history, &gc, Event::Success)?;
    tell(&config, &history, &gc, Event::Missed)?;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let said = told.recv_timeout(Duration::from_secs(20))?;
        seen.push(said.split(' ').nth(1).unwrap_or_default().to_owned());
    }
    // A run that did not take place sends nothing to a switch: that is what makes it ring.
    assert_eq!(seen, ["/ping/start", "/ping", "/ping", "/ping/fail", "/hook", "/hook"]);
    Ok(())
}

#[test]
fn a_history_that_is_full_keeps_nobody_from_hearing() -> Test {
    let (web, told) = http("200 OK")?;
    let text = format!(
        "[channel.a]\ntype = \"ntfy\"\nurl = \"http://{web}/a\"\n\
         [channel.b]\ntype = \"ntfy\"\nurl = \"http://{web}/b\"\n\
         [plan.home]\nsources = [\"/a\"]\nrepository = \"nas\"\n\
         notify = {{ a = [\"failure\"], b = [\"failure\"] }}\n"
    );
    let (dir, config, history) = config(&text)?;
    let run = failed_run(&history)?;
    let database = rusqlite::Connection::open(dir.path().join("state/holdfast.sqlite"))?;
    database.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'full'); END",
    )?;
    assert!(tell(&config, &history, &run, Event::Failure).is_err());
    for path in ["/a", "/b"] {
        let said = told.recv_timeout(Duration::from_secs(20))?;
        assert_eq!(said.split(' ').nth(1), Some(path));
    }
    Ok(())
}

#[test]
fn what_does_not_come_through_is_in_the_log_without_the_secret() -> Test {
    let (web, told) = http("401 Unauthorized")?;
    // A port that no other server can be given.
    let nobody = "127.0.0.1:1";
    let text = format!(
        "[channel.a]\ntype = \"ntfy\"\nurl = \"http://{web}/s3cret\"\n\
         [channel.b]\ntype = \"webhook\"\nurl = \"http://{nobody}/s3cret\"\n"
    );
    let (_dir, config, history) = config(&text)?;
    let first = test(&config, &history, "a").err().ok_or("it came through")?;
    assert!(first.to_string().contains("401"), "{first}");
    told.recv_timeout(Duration::from_secs(20))?;
    assert!(test(&config, &history, "b").is_err());
    let log = history.deliveries(Some(10))?;
    assert_eq!(log.iter().map(|sent| sent.event.as_str()).collect::<Vec<_>>(), ["test", "test"]);
    assert!(log.iter().all(|sent| sent.error.as_ref().is_some_and(|e| !e.contains("s3cret"))));
    assert!(
        test(&config, &history, "c").is_err_and(|problem| problem.message.contains("no channel"))
    );
    Ok(())
}

#[test]
fn secrets_come_from_wherever_they_are_kept_when_something_is_sent() -> Test {
    let (web, told) = http("200 OK")?;
    let kept = tempfile::tempdir()?;
    let (url, ran) = (kept.path().join("url"), kept.path().join("ran"));
    std::fs::write(&url, format!("http://{web}/s3cret\n"))?;
    let text = format!(
        "[channel.a]\ntype = \"ntfy\"\nurl_file = \"{}\"\n\
         token_command = \"echo >> {}; echo t0k\"\n\
         [channel.b]\ntype = \"slack\"\nurl_command = [\"echo\", \"ftp://s3cret\"]\n\
         [channel.c]\ntype = \"slack\"\nurl_file = \"/nonexistent\"\n\
         [channel.d]\ntype = \"slack\"\nurl_command = [\"false\"]\n",
        url.display(),
        ran.display()
    );
    let (_dir, config, history) = config(&text)?;
    // Whoever looks at a channel starts nothing.
    config.channel("a")?;
    config.check_channel("a")?;
    assert!(!ran.exists());
    test(&config, &history, "a")?;
    let said = told.recv_timeout(Duration::from_secs(20))?.to_ascii_lowercase();
    assert!(said.starts_with("post /s3cret ") && said.contains("bearer t0k"), "{said}");
    assert!(ran.exists());
    for (name, part) in [
        ("b", "[channel.b]: url must begin with"),
        ("c", "url_file of the channel c"),
        ("d", "url_command of the channel d gives no secret"),
    ] {
        let problem = test(&config, &history, name).err().ok_or(name)?;
        assert!(problem.to_string().contains(part), "{name}: {problem}");
        assert!(!problem.to_string().contains("s3cret"), "{problem}");
    }
    Ok(())
}

#[test]
fn channels_that_make_no_sense_are_refused_with_what_was_meant() -> Test {
    for (lines, part) in [
        ("", "its type is not set"),
        ("type = \"sms\"", "\"sms\" is no type"),
        ("type = \"ntfy\"", "url is not set"),
        ("type = \"ntfy\"\nurl = \"ftp://x\"", "must begin with https"),
        ("type = \"ntfy\"\nurl = \"https://x\"\nurl_file = \"/x\"", "in several forms"),
        ("type = \"ntfy\"\nurl = \"env:HOLDFAST_NOT_SET\"", "url of the channel x"),
        ("type = \"ntfy\"\nurl_file = \"\"", "url_file must be a path"),
        ("type = \"mail\"\nserver = \"x\"\nfrom = \"nobody\"", "no address of mail"),
        ("type = \"slack\"\nurl = \"https://x\"\ntoken = \"x\"", "no key of a slack channel"),
        ("type = \"mail\"\nurll = \"x\"", "no key of a mail channel"),
        ("type = \"mail\"\nserver = \"x\"\nfrom = \"a@x\"", "to is not set"),
        ("type = \"mail\"\nserver = \"x\"\nfrom = \"a@x\"\nto = 1", "to must be"),
        (
            "type = \"mail\"\nserver = \"x\"\nfrom = \"a@x\"\nto = \"b@x\"\nsecurity = \"none\"\n\
             username = \"a\"\npassword = \"b\"",
            "must not go over",
        ),
    ] {
        let (_dir, config, _) = config(&format!("[channel.x]\n{lines}\n"))?;
        let problem = config.channel("x").err().ok_or(lines)?;
        assert!(problem.message.contains(part), "{lines}: {problem}");
    }
    let (_dir, config, _) = config("[channel.x]\ntype = \"ntfy\"\nurl = \"https://n/s3cret\"\n")?;
    assert!(!format!("{:?}", config.channel("x")?).contains("s3cret"));
    Ok(())
}
