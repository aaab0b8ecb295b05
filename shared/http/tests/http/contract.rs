//! Holds requests and answers against the OpenAPI document: what is not in it must not be sent.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(firebackup_http::openapi()).unwrap());

/// What the document says of a route.
pub struct Operation {
    pub template: String,
    described: &'static Value,
}

/// All of it.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Every operation: method in upper case, path with names in braces.
pub fn operations() -> Vec<(String, String)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &'static Value)| -> Vec<(String, String)> {
        item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())).collect()
    };
    paths.iter().flat_map(of).collect()
}

/// The operation that a request is for; nothing where there is no such route.
pub fn operation(method: &str, path: &str) -> Option<Operation> {
    let path = path.split('?').next().unwrap();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let mut fitting: Vec<&String> = paths.keys().filter(|template| fits(template, path)).collect();
    // as the router does it, a literal goes before a name
    fitting.sort_by_key(|template| template.matches('{').count());
    let template = fitting.first()?;
    let described = DOCUMENT["paths"][template.as_str()].get(method.to_lowercase())?;
    Some(Operation { template: (*template).clone(), described })
}

fn fits(template: &str, path: &str) -> bool {
    let (parts, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    parts.len() == given.len()
        && parts.iter().zip(given).all(|(part, given)| *part == given || part.starts_with('{') && !given.is_empty())
}

impl Operation {
    /// Whether a request has a body.
    pub fn takes_body(&self) -> bool {
        self.described.get("requestBody").is_some()
    }

    /// What the document does not allow of a request's body.
    pub fn check_request(&self, body: &Value) -> Vec<String> {
        check(&self.described["requestBody"]["content"]["application/json"]["schema"], body)
    }

    /// What the document does not allow of an answer.
    pub fn check_answer(&self, status: u16, body: &Value) -> Vec<String> {
        let answer = &self.described["responses"][status.to_string()];
        if answer.is_null() {
            return vec![format!("{} does not answer {status}: {body}", self.template)];
        }
        let answer = resolve(answer);
        let mut wrong = check(&answer["content"]["application/json"]["schema"], body);
        if let Some(code) = body["error"]["code"].as_str()
            && !answer["description"].as_str().unwrap().contains(&format!("`{code}`"))
        {
            wrong.push(format!("{code} is not documented for {status}"));
        }
        wrong
    }
}

pub fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => resolve(DOCUMENT.pointer(&reference[1..]).unwrap()),
        None => value,
    }
}

/// What is wrong with a value, by a schema.
pub fn check(schema: &'static Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(schema, value, "$", &mut wrong);
    wrong
}

fn walk(schema: &'static Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let schema = resolve(schema);
    if let Some(fields) = value.as_object() {
        check_fields(schema, fields, place, wrong);
    }
    walk_kind(schema, value, place, wrong);
}

fn walk_kind(schema: &'static Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let schema = resolve(schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        walk_kind(part, value, place, wrong);
    }
    if let Some(alternatives) = schema["oneOf"].as_array()
        && !alternatives.iter().any(|one| check(one, value).is_empty())
    {
        wrong.push(format!("{place}: {value} is none of the alternatives"));
    }
    if !schema["type"].is_null() && !types(schema).iter().any(|name| is_of(name, value)) {
        wrong.push(format!("{place}: {value} is not {}", schema["type"]));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        wrong.push(format!("{place}: {value} is none of {values:?}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if !schema["items"].is_null() {
            walk(&schema["items"], item, &format!("{place}[{index}]"), wrong);
        }
    }
}

/// Fields that are required, known, and right in themselves.
fn check_fields(schema: &'static Value, fields: &Map<String, Value>, place: &str, wrong: &mut Vec<String>) {
    let mut known = Map::new();
    let mut required = Vec::new();
    gather(schema, &mut known, &mut required);
    for name in required {
        if !fields.contains_key(name) {
            wrong.push(format!("{place}.{name} is missing"));
        }
    }
    for (name, value) in fields {
        match property(schema, name) {
            Some(schema) => walk(schema, value, &format!("{place}.{name}"), wrong),
            None if known.is_empty() => {}
            None => wrong.push(format!("{place}.{name} is not known")),
        }
    }
}

fn gather(schema: &'static Value, known: &mut Map<String, Value>, required: &mut Vec<&'static str>) {
    let schema = resolve(schema);
    known.extend(schema["properties"].as_object().cloned().unwrap_or_default());
    required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
    schema["allOf"].as_array().into_iter().flatten().for_each(|part| gather(part, known, required));
}

fn property(schema: &'static Value, name: &str) -> Option<&'static Value> {
    let schema = resolve(schema);
    let of_parts = || schema["allOf"].as_array().into_iter().flatten().find_map(|part| property(part, name));
    let own = schema["properties"].get(name);
    own.or_else(|| schema["additionalProperties"].is_object().then_some(&schema["additionalProperties"]))
        .or_else(of_parts)
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let schema = &DOCUMENT["components"]["schemas"]["Rename"];
    let right = serde_json::json!({"from": "a", "to": "b"});
    assert_eq!(check(schema, &right), Vec::<String>::new());
    for (wrong, expect) in [
        (serde_json::json!({"from": "a"}), "to is missing"),
        (serde_json::json!({"from": "a", "to": 1}), "is not \"string\""),
        (serde_json::json!({"from": "a", "to": "b", "by": "c"}), "by is not known"),
        (serde_json::json!("a"), "is not \"object\""),
    ] {
        assert!(check(schema, &wrong).iter().any(|text| text.contains(expect)), "{wrong}: {:?}", check(schema, &wrong));
    }
    let operation = operation("GET", "/api/v1/backups/project/proj_1?page=2").unwrap();
    assert_eq!(operation.template, "/api/v1/backups/project/{projectId}");
    assert!(!operation.check_answer(418, &Value::Null).is_empty());
    let unknown = serde_json::json!({"success": false, "error": {"code": "GOOGLE_FAILED", "message": "x"}});
    assert!(operation.check_answer(404, &unknown)[0].contains("not documented"));
}
