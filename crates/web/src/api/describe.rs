//! The description of the API, as OpenAPI has it, made from the operations themselves.

use serde_json::{Map, Value, json};

use super::Operation;
use super::shapes::PROBLEM;

/// How an operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Whole,
    Number,
    Flag,
    Texts,
    /// An object of these fields.
    Object(&'static [Field]),
    /// Several of them.
    Objects(&'static [Field]),
    /// An object whose names are not fixed.
    Map(&'static Self),
    /// One of several types.
    Either(&'static [Self]),
}

impl Type {
    fn schema(self) -> Value {
        let several = |items: Value| json!({ "type": "array", "items": items });
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Whole => json!({ "type": "integer" }),
            Self::Number => json!({ "type": "number" }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Texts => several(Self::Text.schema()),
            Self::Object(fields) => object(fields),
            Self::Objects(fields) => several(object(fields)),
            Self::Map(of) => json!({ "type": "object", "additionalProperties": of.schema() }),
            Self::Either(types) => {
                json!({ "anyOf": types.iter().map(|of| of.schema()).collect::<Vec<_>>() })
            }
        }
    }
}

/// A field of a query, a body or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// What it is called.
    #[cfg(test)]
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> Value {
        let mut schema = self.kind.schema();
        if self.is_needed {
            return schema;
        }
        if let Some(kind) = schema.get_mut("type") {
            *kind = json!([kind.take(), "null"]);
        } else if let Some(any) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
            any.push(json!({ "type": "null" }));
        }
        schema
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
    let content = match (operation.media, &operation.answer[..]) {
        ([], fields) => json!({ "application/json": { "schema": object(fields) } }),
        (media, _) => {
            let of = |kind: &&str| ((*kind).to_owned(), json!({ "schema": { "type": "string" } }));
            media.iter().map(of).collect::<Map<_, _>>().into()
        }
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
            Method::Put => "put",
            Method::Delete => "delete",
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
    let problem = object(&[must("problem", Type::Object(PROBLEM), "What went wrong")]);
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
