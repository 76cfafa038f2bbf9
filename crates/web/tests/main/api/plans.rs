//! Plans that programs make and change: checked like those of people, without hooks, and without a
//! secret that comes back.

use serde_json::{Value, json};

use super::{Program, site};
use crate::site::Result;

#[test]
fn a_plan_is_made_read_replaced_switched_and_removed() -> Result {
    let (site, stored) = site()?;
    let program = Program::new(&site, "admin")?;
    let ask = |method: &str, path: &str, body: &Value| program.ask(method, path, &body.to_string());
    stored.forget_key()?;
    let says = json!({
        "sources": [stored.files],
        "repository": "attic",
        "schedule": "daily at 02:30",
        "keep": { "daily": 7 },
        "check": { "data": "5%", "schedule": "weekly on sun at 05:00" },
        "drill": { "schedule": "monthly on 1 at 06:00", "files": 5 },
        "limit_upload": "5M",
        "notify": { "hook": ["failure", "missed"] },
    });
    let made = json!({ "name": "My letters", "plan": says, "passphrase": "wrong one" });
    let (status, wrong) = ask("POST", "/plans", &made)?;
    assert_eq!((status, &wrong["problem"]["class"]), (403, &"wrong passphrase".into()), "{wrong}");
    let made = json!({ "name": "My letters", "plan": says, "passphrase": "right one" });
    let (status, plan) = ask("POST", "/plans", &made)?;
    assert_eq!(
        (status, &plan["name"], &plan["plan"]["title"]),
        (200, &"my-letters".into(), &"My letters".into()),
        "{plan}"
    );
    for (key, value) in says.as_object().ok_or("no object")? {
        assert_eq!(&plan["plan"][key], value, "{key}");
    }
    assert_eq!((&plan["problem"], &plan["hooks"]), (&Value::Null, &0.into()));
    // It runs without a passphrase, which is nowhere.
    let begun = ask("POST", "/plans/my-letters/run", &json!({}))?.1;
    assert_eq!(site.ended(&begun["run"], &program.token)?["outcome"], "ok");
    let text = std::fs::read_to_string(&site.paths().config)?;
    assert!(text.contains("repository_key_file") && !text.contains("right one"), "{text}");
    assert_eq!(ask("POST", "/plans", &made)?.0, 409);
    // What is not sent again holds no more; what stands in the file alone stays.
    let with_hooks = text.replace(
        "[plan.my-letters]\n",
        "[plan.my-letters] # mine\nhooks = { before = [[\"true\", \"hook-secret\"]] }\n",
    );
    std::fs::write(&site.paths().config, with_hooks)?;
    let less = json!({ "plan": { "sources": ["/etc"], "repository": "@attic" } });
    let (status, plan) = ask("PUT", "/plans/my-letters", &less)?;
    assert_eq!((status, &plan["plan"], &plan["hooks"]), (200, &less["plan"], &1.into()), "{plan}");
    let text = std::fs::read_to_string(&site.paths().config)?;
    assert!(text.contains("# mine") && text.contains("hook-secret"), "{text}");
    let shown = ask("GET", "/plans/my-letters", &json!({}))?.1;
    assert!(!shown.to_string().contains("hook-secret"), "{shown}");
    assert_eq!(shown, plan);
    let off = ask("POST", "/plans/my-letters/disable", &json!({}))?.1;
    assert_eq!(off["plan"]["enabled"], false);
    let on = ask("POST", "/plans/my-letters/enable", &json!({}))?.1;
    assert_eq!(on["plan"].get("enabled"), None);
    assert_eq!(ask("DELETE", "/plans/my-letters", &json!({}))?.1["removed"], "my-letters");
    assert_eq!(ask("DELETE", "/plans/my-letters", &json!({}))?.0, 404);
    let record = ask("GET", "/record", &json!({}))?.1.to_string();
    for what in ["made", "changed", "disabled", "enabled", "removed"] {
        assert!(record.contains(&format!("{what} the plan my-letters")), "{what}: {record}");
    }
    assert!(!record.contains("right one"), "{record}");
    Ok(())
}

#[test]
fn plans_that_make_no_sense_are_refused_and_nothing_is_written() -> Result {
    let (site, _stored) = site()?;
    let program = Program::new(&site, "admin")?;
    let before = std::fs::read_to_string(&site.paths().config)?;
    let good = json!({ "sources": ["/etc"], "repository": "attic" });
    let with = |key: &str, value: Value| {
        let mut plan = good.clone();
        plan[key] = value;
        json!({ "name": "x", "plan": plan })
    };
    for (body, word) in [
        (json!({ "name": "x" }), "plan"),
        (json!({ "name": "..", "plan": good }), "is no name"),
        (json!({ "name": "x", "plan": {} }), "sources are not set"),
        (with("repository", json!("attick")), "attick"),
        (with("repository", json!("relative/path")), "not given from the root"),
        (with("sources", json!(["Documents"])), "not given from the root"),
        (with("sources", json!(["-"])), "standard input"),
        (with("mirror", json!(["attic"])), "is its repository"),
        (with("schedule", json!("soon")), "no schedule"),
        (with("keep", json!({ "dayly": 7 })), "dayly"),
        (with("jittr", json!("1m")), "did you mean jitter?"),
        (with("notify", json!({ "phone": ["failure"] })), "no channel phone"),
        (with("hooks", json!({ "before": [["rm", "-r", "/"]] })), "not taken from programs"),
        (json!({ "name": "x", "plan": good, "passphrase": "" }), "is empty"),
    ] {
        let (status, answer) = program.ask("POST", "/plans", &body.to_string())?;
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(answer.to_string().contains(word), "{body}: {answer}");
        let (status, _) = program.ask("PUT", "/plans/home", &body.to_string())?;
        assert_eq!(status, 422, "{body}");
    }
    assert_eq!(std::fs::read_to_string(&site.paths().config)?, before);
    Ok(())
}
