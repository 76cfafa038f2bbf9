//! Who is told of what: channels and what they were sent, and the record of what was done.

use axum::extract::State;
use axum::response::Response;
use holdfast_app::{notify, times};
use serde::Deserialize;
use serde_json::json;

use super::ask::{Asked, At};
use super::describe::{Type, may, must};
use super::shapes::{CHANNEL, DELIVERY, RECORDED};
use super::{Answer, Operation, blocking};
use crate::accounts::Scope;
use crate::state::Shared;

/// Deliveries or entries of the record where nothing else is asked for, and at most.
const LIMIT: (u32, u32) = (100, 1000);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/alerts",
            Scope::Read,
            "Channels, and what they were sent, the newest first",
            alerts,
        )
        .query(&[may("limit", Type::Whole, "At most so many deliveries: 100, at most 1000")])
        .answer(&[
            must("channels", Type::Objects(CHANNEL), "All channels"),
            must("deliveries", Type::Objects(DELIVERY), "What was sent"),
        ]),
        Operation::post(
            "/api/v1/alerts/{name}/test",
            Scope::Run,
            "Sends a test to a channel",
            test,
        )
        .answer(&[must("sent", Type::Flag, "It came through")]),
        Operation::get(
            "/api/v1/record",
            Scope::Admin,
            "What was done in the console and with tokens, the newest first",
            record,
        )
        .query(&[may("limit", Type::Whole, "At most so many: 100, at most 1000")])
        .answer(&[must("record", Type::Objects(RECORDED), "What was done")]),
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Most {
    limit: Option<u32>,
}

impl Most {
    fn limit(&self) -> u32 {
        self.limit.map_or(LIMIT.0, |limit| limit.clamp(1, LIMIT.1))
    }
}

/// `GET /api/v1/alerts`
async fn alerts(State(state): State<Shared>, Asked(most): Asked<Most>) -> Response {
    blocking(state, move |state| {
        let config = state.paths.load_config()?;
        let plans: Vec<_> = config.plans().into_iter().filter_map(|(_, plan)| plan.ok()).collect();
        let channels = config.channel_names().into_iter().map(|name| {
            let uses = plans.iter().filter(|p| p.notify.iter().any(|n| n.channel == name));
            let uses: Vec<_> = uses.map(|plan| plan.name.clone()).collect();
            let channel = config.channel(&name);
            let problem = channel.as_ref().err().map(|problem| problem.message.clone());
            let channel = channel.ok();
            json!({
                "name": name,
                "title": channel.as_ref().and_then(|channel| channel.title.clone()),
                "kind": channel.as_ref().map(|channel| channel.kind.name()),
                "plans": uses,
                "problem": problem,
            })
        });
        let channels: Vec<_> = channels.collect();
        let sent = state.runner.history().deliveries(Some(most.limit()))?;
        let sent = sent.into_iter().map(|sent| {
            json!({
                "time": times::rfc3339(sent.time),
                "channel": sent.channel,
                "event": sent.event,
                "plan": sent.plan,
                "run": sent.run,
                "error": sent.error,
            })
        });
        Ok(json!({ "channels": channels, "deliveries": sent.collect::<Vec<_>>() }))
    })
    .await
}

/// `POST /api/v1/alerts/{name}/test`
async fn test(State(state): State<Shared>, At(name): At<String>) -> Response {
    blocking(state, move |state| {
        notify::test(&state.paths.load_config()?, state.runner.history(), &name)?;
        Ok(Answer::of(format!("sent a test to {name}"), json!({ "sent": true })))
    })
    .await
}

/// `GET /api/v1/record`
async fn record(State(state): State<Shared>, Asked(most): Asked<Most>) -> Response {
    blocking(state, move |state| {
        let record = state.accounts.record(most.limit())?.into_iter().map(|entry| {
            json!({
                "time": times::rfc3339(entry.time),
                "address": entry.address,
                "what": entry.what,
            })
        });
        Ok(json!({ "record": record.collect::<Vec<_>>() }))
    })
    .await
}
