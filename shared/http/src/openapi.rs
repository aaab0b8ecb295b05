//! The OpenAPI document. Routes and schemas come from the handlers; what holds for all of them is added here.

use firebackup_control::Code;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ArrayBuilder, Components, ContentBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, PathItem, Ref,
    RefOr, Required, Response, ResponseBuilder, Schema, Server, Tag, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::envelope::{ErrorBody, ErrorEnvelope};

const DESCRIPTION: &str = "Backs up Firestore and Firebase Auth users into storage of your own, and restores them.

Send an API key or an access token as `Authorization: Bearer …`. A key belongs to one organization; a person who is signed in \
may be a member of several and says which by `X-Organization-Id`. Both have one role in it: `viewer` reads, `member` starts \
backups and restores and reads the audit log too, `admin` looks after projects, destinations, schedules, webhooks, keys and \
members too, `owner` may do everything.

Answers are `{\"success\": true, \"data\": …}`, lists `{\"success\": true, \"data\": […], \"meta\": …}`, failures \
`{\"success\": false, \"error\": {\"code\", \"message\", \"details\"?}}`. Every answer names its request in \
`x-request-id`; one that the client sends (letters, digits, `-`, `_`, `.`, at most 64) is taken over. Bodies have at most \
1 MiB, events 16 MiB; fields that are not known are refused. Something of another organization is answered like something that is not \
there.";

const TAGS: &[(&str, &str)] = &[
    ("auth", "Signing in and out."),
    ("organizations", "Whose everything is."),
    ("members", "People, their roles, and invites."),
    ("api keys", "Who may call, and with which role."),
    ("projects", "Google projects whose databases are backed up."),
    ("destinations", "Where backups are kept."),
    ("backups", "What can be restored."),
    ("restores", "Backups on their way back, and dry runs."),
    ("pitr", "Changes as they happen, and every moment between two backups."),
    ("drills", "Backups that are restored into a scratch database and compared, to know that it can be done."),
    ("schedules", "Backups that are made by the clock."),
    ("webhooks", "Who is told of what happens."),
    ("audit", "What was done, by whom, and what was refused."),
    ("health", "Whether the service is there."),
];

/// A status that stands for failures, and the codes that come with it.
struct Failures {
    status: u16,
    name: &'static str,
    codes: &'static [(Code, &'static str)],
}

const FAILURES: &[Failures] = &[
    Failures {
        status: 400,
        name: "Malformed",
        codes: &[
            (Code::InvalidRequest, "the body, a parameter or a header cannot be read"),
            (Code::InvalidCursor, "the cursor is not one that this listing gave"),
            (Code::OrganizationRequired, "you are a member of several organizations: send `X-Organization-Id`"),
        ],
    },
    Failures {
        status: 401,
        name: "Unauthorized",
        codes: &[
            (Code::Unauthorized, "no credentials came with the request"),
            (Code::InvalidToken, "the token, code or API key is unknown, malformed, used or revoked"),
            (Code::TokenExpired, "the access token or API key has expired; `details.expiredAt` says when"),
            (Code::InvalidRefreshToken, "the refresh token is unknown, too old or was used before: sign in again"),
            (Code::SignInFailed, "the sign-in proves nothing: begun in another browser, too late, or repeated"),
            (Code::ConsentFailed, "the consent was not given whole, begun in another browser, too late, or repeated"),
        ],
    },
    Failures {
        status: 403,
        name: "Forbidden",
        codes: &[
            (Code::Forbidden, "the role does not allow this, or the organization is not yours"),
            (Code::SignUpClosed, "nobody may sign up with this address who was not invited"),
        ],
    },
    Failures {
        status: 404,
        name: "NotFound",
        codes: &[
            (Code::NotFound, "there is no such thing in this organization"),
            (Code::RouteNotFound, "there is no such route"),
            (Code::InviteInvalid, "the invite is unknown, used, taken back, too old, or for another address"),
            (Code::SignInUnavailable, "nobody has set up an issuer to sign in with"),
            (Code::ConsentUnavailable, "nobody has set up an OAuth client of Google's"),
        ],
    },
    Failures {
        status: 405,
        name: "MethodNotAllowed",
        codes: &[(Code::MethodNotAllowed, "the route does not know this method; `Allow` names those it knows")],
    },
    Failures {
        status: 409,
        name: "Conflict",
        codes: &[
            (Code::Conflict, "it is at odds with how things stand"),
            (Code::ConcurrentChange, "others changed the same thing at the same time; try again"),
            (Code::InUse, "it is still in use; `details` says by what"),
            (Code::LastOwner, "the organization would be left without an owner"),
            (Code::IdempotencyKeyReused, "the idempotency key was used for another request"),
            (Code::JobState, "the job is in a state in which this cannot be done"),
            (Code::ProjectDisconnected, "the project is disconnected"),
            (
                Code::DatabaseSwitchedOff,
                "what this needs of the database is switched off; `details.remedy` switches it on",
            ),
            (
                Code::PermissionMissing,
                "the project's credentials lack a permission that this needs; `details.remedy` grants it",
            ),
            (Code::PitrUnavailable, "this installation captures no changes"),
            (Code::LimitReached, "the organization has as many of these as it may"),
            (Code::Cancelled, "the job was cancelled"),
        ],
    },
    Failures {
        status: 413,
        name: "TooLarge",
        codes: &[(Code::PayloadTooLarge, "the body has more bytes than the route takes: 1 MiB, of an event 16 MiB")],
    },
    Failures {
        status: 415,
        name: "NotJson",
        codes: &[(Code::UnsupportedMediaType, "the content type is not `application/json`")],
    },
    Failures {
        status: 422,
        name: "Invalid",
        codes: &[
            (Code::ValidationFailed, "a field is missing, unknown or not allowed to be so; `details.field` names it"),
            (Code::BackupTooLarge, "the backup is too large for one request; `details.command` does it"),
            (Code::BackupUnreadable, "the backup is damaged, or its origin is not proven"),
            (
                Code::MomentUnavailable,
                "that moment cannot be put back; `details.before` and `details.after` are the nearest that can",
            ),
        ],
    },
    Failures {
        status: 429,
        name: "TooMany",
        codes: &[(Code::TooManyJobs, "the organization has as many unfinished jobs as it may")],
    },
    Failures {
        status: 500,
        name: "Internal",
        codes: &[(Code::Internal, "we failed; the request id finds the entry in the log")],
    },
    Failures {
        status: 502,
        name: "Upstream",
        codes: &[
            (Code::GoogleFailed, "Google could not be reached, or refused"),
            (Code::DestinationFailed, "the destination could not be reached, or refused"),
            (Code::IssuerFailed, "the issuer of whatever proves who calls could not be reached"),
        ],
    },
    Failures {
        status: 503,
        name: "Unavailable",
        codes: &[
            (Code::Unavailable, "a service that we stand on does not answer; try again"),
            (Code::BacklogFull, "too many events wait to be folded; `Retry-After` says when to send it again"),
        ],
    },
];

/// Operations that look at Google or at a destination before they answer.
const REACHING_OUT: &[&str] = &[
    "connect_project",
    "update_project",
    "add_destination",
    "update_destination",
    "verify_destination",
    "try_destination",
    "create_bucket",
    "verify_bucket",
    "list_folders",
    "create_folder",
    "destination_files",
    "delete_file",
    "bulk_delete_files",
    "clean_up_orphans",
    "migrate_destination",
    "destination_file_stats",
    "verify_backup",
    "preview_backup",
    "compare_backups",
    "pitr_windows",
    "drill_reports",
    "create_restore",
    "restore_moment",
    "take_event",
    "begin_sign_in",
    "finish_sign_in",
    "begin_consent",
    "finish_consent",
    "sync_collections",
    "audit",
    "export_audit",
];
/// Operations of people, wherever they are members.
const OF_NO_ORGANIZATION: &[&str] = &["organizations", "create_organization", "accept_invite", "me", "sign_out"];
/// Operations that lead to something without naming it in the path.
const LEADING: &[&str] = &["begin_sign_in", "finish_sign_in", "begin_consent", "finish_consent"];
/// The one operation that cannot fail.
const HEALTH: &str = "health";
/// Operations that read in a backup.
const READING: &[&str] = &["verify_backup", "preview_backup", "compare_backups", "pitr_windows"];

/// Operations that find what they are asked of not fit for it, though they take neither a body nor a query.
const CHOOSY: &[&str] = &["exchange_webhook_secret"];

/// How the schemas of envelopes are named, before what they hold.
const ENVELOPE: &str = "Envelope_";
const LIST_ENVELOPE: &str = "ListEnvelope_";
const ENTRIES: &str = "The entries; may be fewer than `meta.limit`, even none, where more follow.";

const SCHEME: &str = "apiKey";
const ORGANIZATION_PARAMETER: &str = "Organization";

/// Completes the document of the routes.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("FireBackup")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    document.servers = Some(vec![Server::new("/")]);
    document.tags = Some(TAGS.iter().map(tag).collect());
    document.security = Some(vec![requirement()]);
    for item in document.paths.paths.values_mut() {
        for (method, operation) in operations(item) {
            add_what_all_share(&method, operation);
        }
    }
    let mut components = add_components(document.components.take().unwrap_or_default());
    name_what_envelopes_hold(&mut components);
    document.components = Some(components);
    document
}

/// What an envelope holds is written out in it; a reference is shorter, and gives clients one type for one thing.
fn name_what_envelopes_hold(components: &mut Components) {
    for (name, schema) in &mut components.schemas {
        let RefOr::T(Schema::Object(envelope)) = schema else { continue };
        let Some(data) = envelope.properties.get_mut("data") else { continue };
        if let Some(one) = name.strip_prefix(ENVELOPE) {
            *data = Ref::from_schema_name(one).into();
        } else if let Some(entry) = name.strip_prefix(LIST_ENVELOPE) {
            *data = ArrayBuilder::new().items(Ref::from_schema_name(entry)).description(Some(ENTRIES)).into();
        }
    }
}

fn tag((name, description): &(&str, &str)) -> Tag {
    TagBuilder::new().name(*name).description(Some(*description)).build()
}

fn requirement() -> SecurityRequirement {
    SecurityRequirement::new::<_, [&str; 0], _>(SCHEME, [])
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [
        (HttpMethod::Get, get),
        (HttpMethod::Put, put),
        (HttpMethod::Post, post),
        (HttpMethod::Delete, delete),
        (HttpMethod::Patch, patch),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

fn add_what_all_share(method: &HttpMethod, operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    if id == HEALTH {
        return;
    }
    // only what says so of itself is open to strangers
    if operation.security.is_none() && !OF_NO_ORGANIZATION.contains(&id.as_str()) {
        let parameter = Ref::new(format!("#/components/parameters/{ORGANIZATION_PARAMETER}"));
        operation.parameters.get_or_insert_default().push(RefOr::Ref(parameter));
    }
    for status in failures_of(method, operation) {
        let answer = FAILURES.iter().find(|failures| failures.status == status);
        let reference = answer.map(|failures| Ref::from_response_name(failures.name));
        operation.responses.responses.extend(reference.map(|reference| (status.to_string(), reference.into())));
    }
}

fn failures_of(method: &HttpMethod, operation: &Operation) -> Vec<u16> {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let has_body = operation.request_body.is_some();
    let mut statuses = vec![400, 401, 403, 429, 500, 503];
    if has_body {
        statuses.extend([413, 415]);
    }
    if has_body || LEADING.contains(&id) || takes(operation, &ParameterIn::Path) {
        statuses.push(404);
    }
    if has_body || READING.contains(&id) || CHOOSY.contains(&id) || takes(operation, &ParameterIn::Query) {
        statuses.push(422);
    }
    if *method != HttpMethod::Get || READING.contains(&id) {
        statuses.push(409);
    }
    if REACHING_OUT.contains(&id) {
        statuses.push(502);
    }
    statuses
}

fn takes(operation: &Operation, place: &ParameterIn) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|one| matches!(one, RefOr::T(parameter) if parameter.parameter_in == *place))
}

fn add_components(mut components: Components) -> Components {
    let mut schemas = vec![
        (ErrorEnvelope::name().into_owned(), ErrorEnvelope::schema()),
        (ErrorBody::name().into_owned(), ErrorBody::schema()),
    ];
    ErrorEnvelope::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for failures in FAILURES {
        components.responses.insert(failures.name.to_owned(), RefOr::T(response(failures)));
    }
    let organization = ParameterBuilder::new()
        .name("X-Organization-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The organization. Need not be said with an API key, which belongs to one, nor by whoever is a member of one only; another one is refused."))
        .schema(Some(Ref::from_schema_name("OrganizationId")))
        .build();
    components.parameters.insert(ORGANIZATION_PARAMETER.to_owned(), RefOr::T(organization));
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("fb_<id>_<secret>")
        .description(Some("An API key, or the access token of a session."))
        .build();
    components.security_schemes.insert(SCHEME.to_owned(), SecurityScheme::Http(scheme).into());
    components
}

/// All codes and what they mean.
pub(crate) fn describe_codes() -> String {
    let lines: Vec<String> = FAILURES.iter().flat_map(lines).collect();
    format!("What programs tell failures apart by.\n\n{}", lines.join("\n"))
}

fn lines(failures: &Failures) -> impl Iterator<Item = String> {
    failures.codes.iter().map(|(code, meaning)| format!("- `{}`: {meaning}.", code.as_str()))
}

fn response(failures: &Failures) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ErrorEnvelope::name()))).build();
    let mut response = ResponseBuilder::new()
        .description(lines(failures).collect::<Vec<_>>().join("\n"))
        .content("application/json", content)
        .header("x-request-id", text_header("Names the request in the log."));
    if failures.status == 429 {
        response = response.header("Retry-After", text_header("Seconds after which it may be tried again."));
    }
    if failures.status == 401 {
        response = response.header("WWW-Authenticate", text_header("`Bearer`"));
    }
    response.build()
}

fn text_header(description: &str) -> utoipa::openapi::header::Header {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// What strangers may call.
    const OPEN: [&str; 6] =
        ["begin_sign_in", "finish_sign_in", "begin_session", "refresh_session", "finish_consent", "take_event"];

    fn document() -> Value {
        serde_json::to_value(crate::openapi()).unwrap()
    }

    #[test]
    fn every_code_stands_under_one_status() {
        let documented: Vec<&str> =
            FAILURES.iter().flat_map(|failures| failures.codes).map(|(code, _)| code.as_str()).collect();
        let all: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(documented.len(), all.len());
    }

    #[test]
    fn the_document_is_openapi_3_1_and_every_reference_in_it_leads_somewhere() {
        let document = document();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
        let mut references = Vec::new();
        collect_references(&document, &mut references);
        assert!(references.len() > 100, "{}", references.len());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    fn collect_references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| collect_references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_operation_says_what_it_is_and_how_it_fails() {
        let document = document();
        let tags: BTreeSet<&str> = TAGS.iter().map(|(name, _)| *name).collect();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let place = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
                assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{place}");
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{place}");
                if path != "/health" {
                    assert!(path.starts_with("/api/v1/"), "{place}");
                    assert_eq!(operation["responses"]["401"]["$ref"], "#/components/responses/Unauthorized", "{place}");
                    let is_open = OPEN.contains(&operation["operationId"].as_str().unwrap());
                    assert_eq!(operation["security"].is_null(), !is_open, "{place}");
                }
                for named in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                    let parameters = operation["parameters"].as_array().unwrap();
                    assert!(parameters.iter().any(|one| one["name"] == named && one["in"] == "path"), "{place}");
                }
            }
        }
        let special: Vec<&str> = REACHING_OUT
            .iter()
            .chain(READING)
            .chain(CHOOSY)
            .chain(OF_NO_ORGANIZATION)
            .chain(LEADING)
            .copied()
            .collect();
        assert!(special.iter().all(|id| ids.contains(*id)), "{special:?}");
    }

    #[test]
    fn every_schema_and_every_field_is_described() {
        let document = document();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let mut undescribed = Vec::new();
            undescribed_fields(name, schema, &mut undescribed);
            assert!(undescribed.is_empty(), "{undescribed:?}");
        }
    }

    #[test]
    fn envelopes_name_what_they_hold() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let of = |name: &str| schemas[name]["properties"]["data"].clone();
        assert_eq!(of("Envelope_BackupJob")["$ref"], "#/components/schemas/BackupJob");
        assert_eq!(of("ListEnvelope_BackupJob")["items"]["$ref"], "#/components/schemas/BackupJob");
    }

    fn undescribed_fields(place: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            let alternatives = ["oneOf", "allOf", "anyOf"].map(|word| field[word].as_array());
            let described = field.get("description").is_some() || field.get("$ref").is_some();
            let below = alternatives.iter().flatten().copied().flatten().any(|one| one.get("$ref").is_some());
            // the one value that a tag may have says what it is
            let is_tag = field["enum"].as_array().is_some_and(|values| values.len() == 1);
            if !(described || below || is_tag) {
                found.push(place.clone());
            }
            undescribed_fields(&place, field, found);
        }
        for word in ["oneOf", "allOf", "anyOf"] {
            schema[word].as_array().into_iter().flatten().for_each(|one| undescribed_fields(place, one, found));
        }
    }

    #[test]
    fn what_is_secret_is_only_written() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        for schema in ["NewDestination", "DestinationChange"] {
            let options = &schemas[schema]["properties"]["options"];
            assert_eq!(options["additionalProperties"]["writeOnly"], true, "{schema}: {options}");
        }
        for schema in ["NewWebhook", "WebhookChange"] {
            assert_eq!(schemas[schema]["properties"]["url"]["writeOnly"], true, "{schema}");
        }
        let credentials = serde_json::to_string(&schemas["NewCredentials"]).unwrap();
        assert!(credentials.contains("\"writeOnly\":true"), "{credentials}");
    }

    #[test]
    fn the_document_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let stored = std::fs::read_to_string(path).unwrap();
        let fresh = format!("{}\n", crate::openapi().to_pretty_json().unwrap());
        assert!(
            stored == fresh,
            "docs/openapi.json is stale: run `cargo run -p firebackup-http --example openapi > docs/openapi.json`"
        );
    }
}
