//! The API as programs meet it: each address with what its description says, for tokens that may
//! and tokens that may not, and that it does what the pages do. Every answer that comes here is held
//! against the description, at every depth.

mod content;
mod plans;

use holdfast_app::Config;
use serde_json::{Value, json};

use super::site::{Result, Site};
use super::stored::{Stored, read};

/// From the least on.
const SCOPES: [&str; 4] = ["read", "run", "restore", "admin"];

/// A console with a repository, a plan to it, a channel and a place with a secret.
fn site() -> Result<(Site, Stored)> {
    let site = Site::new()?;
    let stored = Stored::new(&site)?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("nas", "location", "sftp://anna@192.0.2.1/backups")?;
        config.set("nas", "password", "not for eyes").map(drop)
    })?;
    let path = &site.paths().config;
    let mut text = std::fs::read_to_string(path)?;
    text.push_str(&format!(
        "[plan.home]\nsources = [{:?}]\nrepository = \"attic\"\n\
         keep = {{ daily = 7, within = \"30d\" }}\ncheck = {{ data = \"5%\" }}\n\
         notify = {{ hook = [\"failure\"] }}\n\
         [plan.spare]\nsources = [\"/x\"]\nrepository = \"nas\"\n\
         [channel.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/x\"\n",
        stored.files
    ));
    std::fs::write(path, text)?;
    Ok((site, stored))
}

/// A program with a token.
struct Program<'a> {
    site: &'a Site,
    token: String,
    description: Value,
}

impl<'a> Program<'a> {
    fn new(site: &'a Site, scope: &str) -> Result<Self> {
        let description = site.ask("GET", "/api/v1/openapi.json", "", "")?.1;
        Ok(Self { site, token: site.token(scope)?, description })
    }

    /// Asks below `/api/v1`. What is answered well is as it is described.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let path = format!("/api/v1{path}");
        let (status, answer) = self.site.ask(method, &path, &self.token, body)?;
        if status == 200 {
            let operation = self.operation(method, &path)?;
            is_described(operation, &answer.to_string())
                .map_err(|e| format!("{method} {path}: {e}: {answer}"))?;
        }
        Ok((status, answer))
    }

    fn operation(&self, method: &str, path: &str) -> Result<&Value> {
        let path = path.split('?').next().unwrap_or_default();
        let is_it = |known: &str| {
            let (known, asked): (Vec<_>, Vec<_>) =
                (known.split('/').collect(), path.split('/').collect());
            let fits = |(known, asked): (&&str, &&str)| known == asked || known.starts_with('{');
            known.len() == asked.len() && known.iter().zip(&asked).all(fits)
        };
        let paths = self.description["paths"].as_object().ok_or("no paths")?;
        let method = method.to_lowercase();
        let found = paths.iter().find(|(known, of)| is_it(known) && of.get(&method).is_some());
        Ok(&found.ok_or(format!("{method} {path} is not described"))?.1[&method])
    }
}

/// An address of the description with what there is in place of its names.
fn filled(method: &str, path: &str) -> String {
    let name = match path {
        path if path.contains("/plans/") && method == "DELETE" => "spare",
        path if path.contains("/plans/") => "home",
        path if path.contains("/alerts/") => "hook",
        _ => "attic",
    };
    let id = if path.contains("/snapshots/") { "latest" } else { "1" };
    let asked = match path.rsplit('/').next() {
        Some("find") => "?q=budget",
        Some("download") => "?path=FILE",
        _ => "",
    };
    path.replace("{name}", name).replace("{id}", id) + asked
}

#[test]
fn every_address_is_as_it_is_described_and_refuses_lesser_tokens() -> Result {
    let (site, stored) = site()?;
    let file = crate::stored::key(&stored.files.join("budget.csv"));
    let tokens = SCOPES.iter().map(|scope| site.token(scope)).collect::<Result<Vec<_>>>()?;
    let (_, description) = site.ask("GET", "/api/v1/openapi.json", "", "")?;
    assert_eq!(description["openapi"], "3.1.0");
    // Runs to look at, and two snapshots of the same places to compare.
    let admin = tokens.last().ok_or("no token")?;
    for _ in 0..2 {
        let run = site.ask("POST", "/api/v1/plans/home/run", admin, "")?.1["run"].clone();
        assert_eq!(site.ended(&run, admin)?["outcome"], "ok");
    }
    let mut seen = 0;
    for (path, methods) in description["paths"].as_object().ok_or("no paths")? {
        for (method, operation) in methods.as_object().ok_or("no methods")? {
            let Some(scope) = operation["security"][0]["token"][0].as_str() else {
                let free = ["/healthz", "/api/v1/openapi.json"];
                assert!(free.contains(&path.as_str()), "{path} needs no token");
                continue;
            };
            let verb = method.to_uppercase();
            let address = filled(&verb, path).replace("FILE", &file);
            let what = format!("{verb} {address}");
            assert_eq!(site.ask_text(&verb, &address, "", "")?.0, 401, "{what}");
            assert_eq!(site.ask_text(&verb, &address, "hf_00", "")?.0, 401, "{what}");
            let least = SCOPES.iter().position(|name| *name == scope).ok_or("no scope")?;
            for token in &tokens[..least] {
                let (status, answer) = site.ask(&verb, &address, token, "{}")?;
                assert_eq!(status, 403, "{what}");
                assert_eq!(answer["problem"]["class"], "permission denied", "{what}");
            }
            let (status, text) = site.ask_text(&verb, &address, &tokens[least], "")?;
            assert!(!matches!(status, 401 | 403 | 404 | 405 | 500), "{what}: {status} {text}");
            if verb == "GET" {
                assert_eq!(status, 200, "{what}: {text}");
            }
            if status == 200 {
                is_described(operation, &text).map_err(|e| format!("{what}: {e}: {text}"))?;
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen}");
    // A browser's session is no token, and none is needed to see that it is alive.
    let cookie = site.sign_in()?.0;
    assert_eq!(site.get("/api/v1/plans", &cookie)?.status, 401);
    assert_eq!(site.get("/healthz", "")?.body, "ok\n");
    assert!(site.ask_text("GET", "/metrics", &tokens[0], "")?.1.contains("\nholdfast_runs_open "));
    Ok(())
}

/// Whether an answer is as its description says, and holds nothing else.
fn is_described(operation: &Value, text: &str) -> Result {
    let Some(content) = operation["responses"]["200"]["content"].get("application/json") else {
        return Ok(());
    };
    let answer: Value = serde_json::from_str(text)?;
    fits(&content["schema"], &answer, "")?;
    Ok(())
}

/// Whether a value fits a schema, all that is in it included. Errors: where it does not.
fn fits(schema: &Value, value: &Value, at: &str) -> std::result::Result<(), String> {
    if let Some(any) = schema["anyOf"].as_array() {
        return match any.iter().any(|schema| fits(schema, value, at).is_ok()) {
            true => Ok(()),
            false => Err(format!("{at} is none of {any:?}: {value}")),
        };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_u64() || n.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |wanted: &Value| wanted == kind || wanted == "number" && kind == "integer";
    let among = schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(is));
    if !is(&schema["type"]) && !among {
        return Err(format!("{at} is {kind}, and not {}", schema["type"]));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(&schema["items"], item, &format!("{at}/{number}"))?;
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let described = schema["properties"].get(name).or(schema.get("additionalProperties"));
        let described = described.ok_or(format!("{at}/{name} is not described"))?;
        fits(described, field, &format!("{at}/{name}"))?;
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if kind == "object" && value.get(name).is_none() {
            return Err(format!("{at}/{name} is missing"));
        }
    }
    Ok(())
}

/// What of a schema says nothing, at any depth.
fn vague(schema: &Value, at: &str) -> Vec<String> {
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().flat_map(|one| vague(one, at)).collect();
    }
    let is = |kind: &str| {
        let kinds = schema["type"].as_array();
        schema["type"] == kind || kinds.is_some_and(|kinds| kinds.contains(&kind.into()))
    };
    let mut found = Vec::new();
    if is("array") {
        found.extend(vague(&schema["items"], &format!("{at}/*")));
    } else if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            let at = format!("{at}/{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                found.push(format!("{at} has no description"));
            }
            found.extend(vague(field, &at));
        }
    } else if is("object") && schema["additionalProperties"].is_object() {
        found.extend(vague(&schema["additionalProperties"], &format!("{at}/*")));
    } else if !["string", "integer", "number", "boolean", "null"].iter().any(|kind| is(kind)) {
        found.push(format!("{at} has no type"));
    }
    found
}

#[test]
fn everything_that_is_sent_and_answered_has_a_type() -> Result {
    let site = Site::new()?;
    let description = site.ask("GET", "/api/v1/openapi.json", "", "")?.1;
    let mut seen = 0;
    for (path, methods) in description["paths"].as_object().ok_or("no paths")? {
        for (method, operation) in methods.as_object().ok_or("no methods")? {
            let answers = operation["responses"].as_object().ok_or("no answers")?;
            let answers = answers.values().chain([&operation["requestBody"]]);
            for content in answers.filter_map(|answer| answer["content"].as_object()).flatten() {
                let what = format!("{method} {path}");
                assert_eq!(vague(&content.1["schema"], ""), [""; 0], "{what}");
                seen += 1;
            }
        }
    }
    let problem = &description["components"]["responses"]["Problem"]["content"];
    assert_eq!(vague(&problem["application/json"]["schema"], ""), [""; 0]);
    assert!(seen > 30, "only {seen}");
    Ok(())
}

#[test]
fn storages_and_snapshots_are_read_and_no_secret_is() -> Result {
    let (site, stored) = site()?;
    let program = Program::new(&site, "admin")?;
    let (status, nothing) = program.ask("GET", "/no/such/thing", "")?;
    assert_eq!((status, &nothing["problem"]["class"]), (404, &"no such path".into()), "{nothing}");
    let get = |path: &str| -> Result<Value> {
        let (status, answer) = program.ask("GET", path, "")?;
        assert_eq!(status, 200, "{path}: {answer}");
        Ok(answer)
    };
    let all = get("/storages")?;
    let named = |name: &str| {
        let all = all["storages"].as_array();
        all.and_then(|all| all.iter().find(|one| one["name"] == name)).cloned().unwrap_or_default()
    };
    assert_eq!(
        (&named("attic")["title"], &named("attic")["plans"]),
        (&json!("Attic disk"), &json!(["home"]))
    );
    let nas = get("/storages/nas")?;
    assert_eq!(nas["options"]["password"], "********");
    assert_eq!(nas["location"], "sftp://anna@192.0.2.1/backups");
    assert!(!format!("{all}{nas}").contains("not for eyes"));
    assert_eq!(get("/storages/attic/state")?["state"], "ready");
    let list = get("/storages/attic/snapshots")?;
    assert_eq!(
        (&list["all"], list["snapshots"][0]["id"].as_str()),
        (&3.into(), Some(stored.newest()?.id.to_string().as_str()))
    );
    let first = get("/storages/attic/snapshots?limit=2")?;
    let last = get(&format!("/storages/attic/snapshots?limit=2&from={}", first["next"]))?;
    assert_eq!(
        (last["snapshots"].as_array().map(Vec::len), &last["next"]),
        (Some(1), &Value::Null)
    );
    let folder = crate::stored::key(&stored.files);
    let tagged = get(&format!(
        "/storages/attic/snapshots?tag=before-upgrade&path={folder}/Letters&host=tern"
    ))?;
    assert_eq!((&tagged["all"], &tagged["snapshots"][0]["pinned"]), (&1.into(), &true.into()));
    // By the begin of its id, as everywhere.
    let short = stored.newest()?.id.short();
    assert_eq!(get(&format!("/storages/attic/snapshots/{short}"))?["files"], 8);
    assert_eq!(get("/storages/attic/keys")?["keys"].as_array().map(Vec::len), Some(2));
    let test = program.ask("POST", "/storages/attic/test", "")?.1;
    assert_eq!(test["passed"], true, "{test}");
    assert!(test["steps"].as_array().is_some_and(|steps| steps.len() > 3), "{test}");
    // Without its key it asks for nothing, and says what is needed.
    stored.forget_key()?;
    std::fs::rename(site.home().join("store"), site.home().join("elsewhere"))?;
    Config::edit(&site.paths().config, None, |config| {
        config.set("attic", "location", &site.home().join("elsewhere").to_string_lossy()).map(drop)
    })?;
    let (status, locked) = program.ask("GET", "/storages/attic/snapshots", "")?;
    assert_eq!((status, &locked["problem"]["class"]), (423, &"passphrase needed".into()));
    assert_eq!(get("/storages/attic/state")?["state"], "locked");
    Ok(())
}

#[test]
fn a_directory_comes_page_by_page_and_files_are_found() -> Result {
    let site = Site::new()?;
    let stored = Stored::with(&site, |files| {
        for number in 0..450 {
            std::fs::write(files.join(format!("f{number:04}")), vec![b'x'; number])?;
        }
        Ok(())
    })?;
    let program = Program::new(&site, "restore")?;
    let folder = crate::stored::key(&stored.files);
    let get = |path: &str| program.ask("GET", &format!("/storages/attic/{path}"), "");
    let files = format!("snapshots/latest/files?path={folder}");
    let mut names = Vec::new();
    let mut next = String::new();
    loop {
        let (status, page) = get(&format!("{files}{next}"))?;
        assert_eq!(status, 200, "{page}");
        let rows = page["entries"].as_array().ok_or("no entries")?;
        names.extend(rows.iter().filter_map(|row| row["path"].as_str()).map(String::from));
        let Some(more) = page["next"].as_str() else { break };
        next = format!("&next={more}");
        assert!(names.len() < 1000, "no end");
    }
    assert_eq!(names.len(), 450 + 7);
    assert_eq!(names.first(), Some(&format!("{folder}/Letters")), "folders first");
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    let largest = get(&format!("{files}&sort=-size&q=f0"))?.1;
    assert_eq!((&largest["entries"][0]["size"], &largest["all"]), (&449.into(), &450.into()));
    let roots = get("snapshots/latest/files")?.1;
    assert_eq!(roots["entries"].as_array().map(Vec::len), Some(1), "{roots}");
    let found = get("find?q=budget&below=/")?.1;
    assert_eq!((&found["all"], &found["versions"][0]["size"]), (&2.into(), &36.into()));
    assert_eq!(get("find?q=budget&limit=1")?.1["versions"].as_array().map(Vec::len), Some(1));
    // What is misspelt is not passed over.
    for (path, word) in [
        ("find?q=x&lager=1M", "lager"),
        ("find?q=x&larger=much", "much is no size"),
        ("find", "what to look for"),
        ("snapshots/latest/files?path=Letters", "not given from the root"),
        ("snapshots/latest/files?sort=colour", "not sorted by colour"),
        ("snapshots/latest/files?next=zz", "not what a page said"),
        ("snapshots/0000/files", "no snapshot 0000"),
        ("snapshots?limit=many", "limit"),
    ] {
        let (status, answer) = get(path)?;
        assert!(matches!(status, 404 | 422), "{path}: {status}");
        assert!(answer.to_string().contains(word), "{path}: {answer}");
        assert!(answer["problem"]["hints"][0].is_string(), "{path}: {answer}");
    }
    Ok(())
}

#[test]
fn a_program_restores_what_it_looked_at_first() -> Result {
    let (site, stored) = site()?;
    let program = Program::new(&site, "restore")?;
    let to = site.home().join("back");
    let path = "/storages/attic/snapshots/latest/restore";
    let folder = crate::stored::key(&stored.files);
    let wish = |more: &str| {
        format!("{{\"to\":{to:?},\"path\":\"{folder}\",\"include\":[\"{folder}/Letters\"]{more}}}")
    };
    let (status, look) = program.ask("POST", path, &wish(",\"dry_run\":true"))?;
    assert_eq!((status, &look["files"], &look["replaced"]), (200, &2.into(), &0.into()), "{look}");
    assert!(!to.exists(), "a look wrote something");
    let (status, begun) = program.ask("POST", path, &wish(""))?;
    assert_eq!(status, 200, "{begun}");
    let run = site.ended(&begun["run"], &program.token)?;
    assert_eq!((&run["outcome"], &run["numbers"]["verified"]), (&"ok".into(), &2.into()), "{run}");
    for name in ["Letters/one.txt", "Letters/two.txt"] {
        assert_eq!(read(&to.join(name))?, read(&stored.files.join(name))?, "{name}");
    }
    let log = program.ask("GET", &format!("/runs/{}/log?limit=1", begun["run"]), "")?.1;
    assert_eq!((log["lines"].as_array().map(Vec::len), log["next"].is_i64()), (Some(1), true));
    for (body, word) in [
        ("{}", "where to restore to"),
        ("{\"to\":\"back\"}", "not given from the root"),
        ("{\"to\":\"/x\",\"in_place\":true}", "where to restore to"),
        ("{\"to\":\"/x\",\"overwrite\":\"perhaps\"}", "perhaps is no rule"),
        ("{\"to\":\"/x\",\"dryrun\":true}", "dryrun"),
        ("[", "body"),
    ] {
        let (status, answer) = program.ask("POST", path, body)?;
        assert_eq!(status, 422, "{body}");
        assert!(answer.to_string().contains(word), "{body}: {answer}");
    }
    let record = site.ask("GET", "/api/v1/record", &site.token("admin")?, "")?.1;
    let what = record["record"].as_array().map(|all| {
        all.iter().filter_map(|one| one["what"].as_str()).collect::<Vec<_>>().join("\n")
    });
    let what = what.unwrap_or_default();
    assert!(what.contains("restored from") && what.contains("with the token x"), "{what}");
    Ok(())
}

#[test]
fn snapshots_are_tagged_and_forgotten_by_those_who_may() -> Result {
    let (site, stored) = site()?;
    let program = Program::new(&site, "admin")?;
    let token = &program.token;
    let post =
        |path: &str, body: &str| program.ask("POST", &format!("/storages/attic/{path}"), body);
    let all = stored.snapshots()?;
    let (oldest, newest) = (all.first().ok_or("none")?.id, all.last().ok_or("none")?.id);
    let (status, said) = post(
        &format!("snapshots/{newest}"),
        "{\"tags\":[\"good\"],\"description\":\"before the move\"}",
    )?;
    assert_eq!((status, &said["tags"], &said["pinned"]), (200, &json!(["good"]), &false.into()));
    // What is left out stays.
    let said = post(&format!("snapshots/{newest}"), "{\"description\":\"\"}")?.1;
    assert_eq!((&said["tags"], &said["description"]), (&json!(["good"]), &"".into()));
    let body = |id: &dyn std::fmt::Display, look: bool| {
        format!("{{\"snapshots\":[\"{id}\"],\"dry_run\":{look}}}")
    };
    let look = post("forget", &body(&oldest, true))?.1;
    assert!(look["snapshots"][0]["kept"].is_string(), "a pinned one may go: {look}");
    let look = post("forget", &body(&newest, true))?.1;
    assert_eq!((&look["snapshots"][0]["kept"], &look["stay"]), (&Value::Null, &2.into()));
    assert!(look["bytes_freed"].as_u64() > Some(0), "{look}");
    assert_eq!(stored.snapshots()?.len(), 3, "a look forgot something");
    let begun = post("forget", &body(&newest, false))?.1;
    assert_eq!(site.ended(&begun["run"], token)?["outcome"], "ok");
    assert_eq!(stored.snapshots()?.len(), 2);
    let plan = post("gc", "{\"dry_run\":true}")?.1;
    assert_eq!(plan["plan"]["open"], json!([]), "{plan}");
    let begun = post("gc", "")?.1;
    assert_eq!(site.ended(&begun["run"], token)?["outcome"], "ok");
    let begun = post("check", "{\"data\":100}")?.1;
    assert_eq!(site.ended(&begun["run"], token)?["outcome"], "ok");
    assert_eq!(post("check", "{\"data\":101}")?.0, 422);
    Ok(())
}
