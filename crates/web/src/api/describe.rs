//! The description of the API, as OpenAPI has it, made from the operations themselves.

use serde_json::{Map, Value, json};

use super::Operation;

/// How an operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Whole,
    Flag,
    List,
    Texts,
    Object,
    Number,
}

/// A field of a query, a body or an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    kind: Type,
    about: &'static str,
    is_needed: bool,
}

/// A field that may be left out, or null.
pub(super) const fn may(name: &'static str, kind: Type, about: &'static str) -> Field {
    Field { name, kind, about, is_needed: false }
}

/// A field that is always there.
pub(super) const fn must(name: &'static str, kind: Type, about: &'static str) -> Field {
    Field { name, kind, about, is_needed: true }
}

/// The number of a run that was started.
pub(super) const RUN: Field = may("run", Type::Whole, "Number of the run that does it");

impl Field {
    fn schema(&self) -> Value {
        let name = match self.kind {
            Type::Text => "string",
            Type::Whole => "integer",
            Type::Flag => "boolean",
            Type::List | Type::Texts => "array",
            Type::Object => "object",
            Type::Number => "number",
        };
        let kind = if self.is_needed { json!(name) } else { json!([name, "null"]) };
        match self.kind {
            Type::Texts => json!({ "type": kind, "items": { "type": "string" } }),
            Type::List => json!({ "type": kind, "items": {} }),
            _ => json!({ "type": kind }),
        }
    }

    /// With what it is for.
    fn described(&self) -> Value {
        let mut schema = self.schema();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), self.about.into());
        }
        schema
    }
}

/// The schema of an object of these fields.
fn object(fields: &[Field]) -> Value {
    let properties: Map<_, _> =
        fields.iter().map(|field| (field.name.to_owned(), field.described())).collect();
    let needed: Vec<_> = fields.iter().filter(|f| f.is_needed).map(|f| f.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if let Some(schema) = schema.as_object_mut().filter(|_| !needed.is_empty()) {
        schema.insert("required".into(), json!(needed));
    }
    schema
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let names = operation.path.split('/');
    let names = names.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let place = |name: &str| {
        let kind = if operation.path.contains("/runs/") { "integer" } else { "string" };
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
    };
    let asked = |field: &Field| {
        json!({
            "name": field.name,
            "in": "query",
            "required": field.is_needed,
            "description": field.about,
            "schema": Field { is_needed: true, ..*field }.schema(),
        })
    };
    names.map(place).chain(operation.query.iter().map(asked)).collect()
}

fn described(operation: &Operation) -> Value {
    let content = match &operation.answer[..] {
        [] => json!({ "text/plain": { "schema": { "type": "string" } } }),
        fields => json!({ "application/json": { "schema": object(fields) } }),
    };
    let mut responses = json!({
        "200": { "description": operation.summary, "content": content },
        "default": { "$ref": "#/components/responses/Problem" },
    });
    let named = [("401", "Unauthorized"), ("403", "Forbidden")];
    if let Some(responses) = responses.as_object_mut() {
        for (status, name) in named {
            let to = format!("#/components/responses/{name}");
            responses.insert(status.into(), json!({ "$ref": to }));
        }
    }
    let mut described = json!({
        "summary": operation.summary,
        "description": format!("Needs a token that may {}.", operation.scope.name()),
        "security": [{ "token": [operation.scope.name()] }],
        "parameters": parameters(operation),
        "responses": responses,
    });
    if let Some(described) = described.as_object_mut().filter(|_| !operation.body.is_empty()) {
        let schema = object(&operation.body);
        let body = json!({ "content": { "application/json": { "schema": schema } } });
        described.insert("requestBody".into(), body);
    }
    described
}

/// The whole document.
pub(super) fn document(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let method = match operation.method {
            Method::Get => "get",
            Method::Post => "post",
        };
        let place = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(place) = place.as_object_mut() {
            place.insert(method.into(), described(operation));
        }
    }
    for (path, summary) in
        [("/healthz", "Whether the console is alive"), ("/api/v1/openapi.json", "This document")]
    {
        let responses = json!({ "200": { "description": summary } });
        paths.insert(path.into(), json!({ "get": { "summary": summary, "responses": responses } }));
    }
    let problem = [
        must("class", Type::Text, "As in docs/json.md"),
        must("message", Type::Text, "What happened"),
        may("stage", Type::Text, "How far a connection came"),
        must("causes", Type::Texts, "Why"),
        must("hints", Type::Texts, "What to do next"),
    ];
    let problem = json!({ "type": "object", "properties": { "problem": object(&problem) } });
    let response = |text: &str| {
        let content = json!({ "application/json": { "schema": problem } });
        json!({ "description": text, "content": content })
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast console",
            "version": "1",
            "description": "What the console shows and does, for programs. Fields may be added at \
                any time. Sizes are bytes, times are RFC 3339 in UTC.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of the console's settings: read, run, restore or \
                    admin, of which each may what those before it may.",
            } },
            "responses": {
                "Unauthorized": response("No token, or one that is not known"),
                "Forbidden": response("The token may not do this"),
                "Problem": response("It could not be done"),
            },
        },
    })
}
