//! `/api/v1/openapi.json` (OpenAPI 3.1), made from [`ApiOperation`] and the tables of its documents. Tests hold the tables to
//! what is read and written in truth.

use std::sync::LazyLock;

use auth::Role;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HeaderBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder,
    PathsBuilder, Ref, RefOr, Required, ResponseBuilder, Schema, Type,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem},
    request_body::RequestBodyBuilder,
    schema::{AdditionalProperties, ArrayBuilder, KnownFormat, SchemaFormat, SchemaType},
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::{
    ApiOperation, envelope,
    page::{Filters, MOST, USUAL},
};
use crate::body::Body;

/// Answers with the document.
pub(super) fn get() -> Response<Body> {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&document()).map(Bytes::from).unwrap_or_default());
    envelope::json_bytes(StatusCode::OK, DOCUMENT.clone())
}

/// What stands in a field.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Text,
    Texts,
    OneOf(&'static [&'static str]),
    Number,
    NumberOrNull,
    Flag,
    Day,
    Time,
    TimeOrNull,
    Document(&'static str),
    Documents(&'static str),
}

/// A field of a document.
#[derive(Debug)]
struct Field {
    name: &'static str,
    shape: Shape,
    required: bool,
    says: &'static str,
}

/// A field that is always there.
const fn must(name: &'static str, shape: Shape, says: &'static str) -> Field {
    Field { name, shape, required: true, says }
}

/// A field that may be left out.
const fn may(name: &'static str, shape: Shape, says: &'static str) -> Field {
    Field { name, shape, required: false, says }
}

const STATES: Shape = Shape::OneOf(&["active", "read-only", "suspended"]);
const ON_STALE: Shape = Shape::OneOf(&["refuse", "serve"]);
const ROLES: Shape = Shape::OneOf(&["owner", "publisher", "installer", "viewer"]);
const KINDS: Shape = Shape::OneOf(&["pull", "push"]);
const CIDRS: &str = "Networks as CIDR texts; none: from anywhere";

/// The documents by name.
const DOCUMENTS: [(&str, &[Field]); 17] = [
    (
        "Account",
        &[
            must("name", Shape::Text, "First segment of its repositories"),
            must("generation", Shape::Text, "Another one each time an account of this name is made"),
            must("display", Shape::Text, "A name for people"),
            must("state", STATES, "What it is allowed now"),
            must("created_at", Shape::Time, "When this generation was made"),
            must("hosts", Shape::Texts, "Approved hosts of its own"),
            must("on_stale", ON_STALE, "What becomes of pulls while the store cannot be read"),
            must("policy", Shape::Document("Policy"), "What its credentials are held to"),
        ],
    ),
    (
        "Policy",
        &[
            may("max_ttl_pull", Shape::Number, "Longest life of a pull credential in seconds; absent: 30 days"),
            may("max_ttl_push", Shape::Number, "Longest life of a push credential in seconds; absent: 24 hours"),
            may("ip_allow", Shape::Texts, CIDRS),
        ],
    ),
    (
        "NewAccount",
        &[
            must("name", Shape::Text, "1 to 39 lower-case letters, digits and single hyphens inside"),
            may("display", Shape::Text, "A name for people"),
        ],
    ),
    (
        "AccountChange",
        &[
            may("display", Shape::Text, "A name for people"),
            may("state", STATES, "What it is allowed; the operator's"),
            may("on_stale", ON_STALE, "What becomes of pulls while the store cannot be read"),
            may("policy", Shape::Document("PolicyChange"), "An owner only lowers it"),
        ],
    ),
    (
        "PolicyChange",
        &[
            may("max_ttl_pull", Shape::NumberOrNull, "60 seconds to 90 days; null returns to the default"),
            may("max_ttl_push", Shape::NumberOrNull, "60 seconds to 90 days; null returns to the default"),
            may("ip_allow", Shape::Texts, CIDRS),
        ],
    ),
    ("Public", &[must("patterns", Shape::Texts, "Patterns of repositories that anybody may pull from")]),
    (
        "AccessKey",
        &[
            must("id", Shape::Text, "Its id"),
            must("account", Shape::Text, "Its account"),
            may("key", Shape::Text, "The secret: only where the key is made"),
            must("role", ROLES, "What it may do"),
            must("actions", Shape::Texts, "What its credentials may do at most"),
            must("repositories", Shape::Texts, "Patterns that it reaches"),
            must("label", Shape::Text, "What people call it"),
            must(
                "max_ttl_seconds",
                Shape::NumberOrNull,
                "Longest life of its credentials, if shorter than the account's",
            ),
            must("created_at", Shape::Time, "When it was made"),
            must("expires_at", Shape::TimeOrNull, "When it ends by itself"),
            must("state", Shape::OneOf(&["active", "retired", "revoked"]), "What it can still do"),
            may("last_used_on", Shape::Day, "The day it was last used"),
        ],
    ),
    (
        "NewKey",
        &[
            may("role", ROLES, "Default: owner"),
            may("delete", Shape::Flag, "Whether a publisher's credentials may delete"),
            may("label", Shape::Text, "What people call it"),
            may("repositories", Shape::Texts, "Patterns, e.g. acme/web/*; none: the whole account"),
            may("max_ttl_seconds", Shape::NumberOrNull, "Longest life of its credentials"),
            may("expires_at", Shape::TimeOrNull, "When it ends by itself"),
            may("ip_allow", Shape::Texts, CIDRS),
        ],
    ),
    (
        "Credential",
        &[
            must("id", Shape::Text, "Its id"),
            must("account", Shape::Text, "Its account"),
            must("username", Shape::Text, "The user name"),
            may("password", Shape::Text, "Only where the credential is made, like all that follows from it"),
            must("host", Shape::Text, "The registry's host"),
            must("kind", KINDS, "What it is for"),
            must("actions", Shape::Texts, "What it may do"),
            must("repositories", Shape::Texts, "Patterns that it reaches"),
            must("label", Shape::Text, "What people call it"),
            must("created_at", Shape::Time, "When it was minted"),
            must("expires_at", Shape::Time, "When it ends"),
            may("revoked_at", Shape::Time, "When it was revoked"),
            may("last_used_on", Shape::Day, "The day it was last used"),
            may("issuer", Shape::Document("Issuer"), "Who minted it: where it is read again"),
            may("docker_login", Shape::Text, "The line that logs docker in"),
            may("helm_login", Shape::Text, "The line that logs helm in"),
            may("dockerconfigjson", Shape::Text, "Base64 of docker's config.json"),
            may("kubernetes_secret", Shape::Text, "A Kubernetes Secret as YAML"),
        ],
    ),
    (
        "Issuer",
        &[
            must("type", Shape::OneOf(&["key", "operator"]), "An access key, or whoever works on the store"),
            must("id", Shape::Text, "The key's id"),
        ],
    ),
    (
        "MintRequest",
        &[
            must("kind", KINDS, "What it is for"),
            may("repositories", Shape::Texts, "Patterns within the key's; default: all of them"),
            may("actions", Shape::Texts, "pull, push, delete; default: the kind's without delete"),
            may(
                "ttl_seconds",
                Shape::NumberOrNull,
                "Default: 12 hours to pull, 4 hours to push, or the most that is allowed",
            ),
            may("label", Shape::Text, "What people call it"),
            may("ip_allow", Shape::Texts, CIDRS),
            may("replaces", Shape::Text, "The id of a credential of the same key, which then ends in ten minutes"),
        ],
    ),
    ("Ended", &[must("effective_by", Shape::Time, "From then on no replica honours it")]),
    (
        "Accounts",
        &[must("items", Shape::Documents("Account"), "In order of their names"), may("next_token", Shape::Text, MORE)],
    ),
    (
        "AccessKeys",
        &[must("items", Shape::Documents("AccessKey"), "Oldest first"), may("next_token", Shape::Text, MORE)],
    ),
    (
        "Credentials",
        &[must("items", Shape::Documents("Credential"), "Oldest first"), may("next_token", Shape::Text, MORE)],
    ),
    ("Errors", &[must("errors", Shape::Documents("Error"), "One at least")]),
    (
        "Error",
        &[
            must("code", Shape::Text, "For programs"),
            must("message", Shape::Text, "For people, one line"),
            may("detail", Shape::Document("ErrorDetail"), "What it is about"),
        ],
    ),
];
const MORE: &str = "Where the list goes on; absent at its end. A page may be shorter than its limit";
/// Kept apart: it is open, and what it holds depends on the error.
const DETAIL: &[Field] = &[
    may("field", Shape::Text, "JSON pointer to a field of the request, or ? and the name of a parameter"),
    may("request_id", Shape::Text, "With a 5xx: what the operator finds the reason by"),
];

/// What the document says of an operation beside method, path and right.
struct Facts {
    summary: &'static str,
    request: Option<&'static str>,
    status: StatusCode,
    answer: Option<&'static str>,
    list: Option<Filters>,
    /// Whether the answer has an `ETag`.
    tagged: bool,
    /// Whether the call needs `If-Match`.
    conditional: bool,
}

fn facts(operation: ApiOperation) -> Facts {
    let plain = |summary, answer| Facts {
        summary,
        request: None,
        status: StatusCode::OK,
        answer: Some(answer),
        list: None,
        tagged: false,
        conditional: false,
    };
    let made = |summary, request, answer| Facts {
        request: Some(request),
        status: StatusCode::CREATED,
        ..plain(summary, answer)
    };
    let list = |summary, answer, filters| Facts { list: Some(filters), ..plain(summary, answer) };
    match operation {
        ApiOperation::OpenApi => Facts { answer: None, ..plain("This document", "") },
        ApiOperation::AccountList => list("The accounts", "Accounts", Filters::None),
        ApiOperation::AccountCreate => Facts { tagged: true, ..made("Make an account", "NewAccount", "Account") },
        ApiOperation::AccountGet => Facts { tagged: true, ..plain("One account", "Account") },
        ApiOperation::AccountChange => Facts {
            request: Some("AccountChange"),
            tagged: true,
            conditional: true,
            ..plain("Change an account: a merge patch", "Account")
        },
        ApiOperation::AccountDelete => {
            Facts { conditional: true, ..plain("Delete an account and all that is in it", "Ended") }
        }
        ApiOperation::PublicGet => Facts { tagged: true, ..plain("What anybody may pull", "Public") },
        ApiOperation::PublicSet => Facts {
            request: Some("Public"),
            tagged: true,
            conditional: true,
            ..plain("Say what anybody may pull", "Public")
        },
        ApiOperation::KeyList => list("The access keys, without their secrets", "AccessKeys", Filters::Expiring),
        ApiOperation::KeyCreate => made("Make an access key; only this answer shows its secret", "NewKey", "AccessKey"),
        ApiOperation::KeyGet => plain("One access key", "AccessKey"),
        ApiOperation::KeyRetire => plain("Let a key mint no more; what it minted lives out its time", "Ended"),
        ApiOperation::KeyRevoke => plain("End a key and every credential it minted", "Ended"),
        ApiOperation::CredentialList => {
            list("The credentials, without their passwords", "Credentials", Filters::Expiring)
        }
        ApiOperation::CredentialMint => {
            made("Mint a credential; only this answer shows its password", "MintRequest", "Credential")
        }
        ApiOperation::CredentialGet => plain("One credential", "Credential"),
        ApiOperation::CredentialRevoke => plain("End a credential", "Ended"),
    }
}

/// Who may, in words.
fn who(operation: ApiOperation) -> String {
    let Some(right) = operation.right() else { return "Any access key or operator key.".to_owned() };
    let roles: Vec<_> = right.roles().iter().copied().map(Role::as_str).collect();
    match (roles.as_slice(), right.operator()) {
        ([], _) => "An operator key.".to_owned(),
        (_, false) => format!("An access key of the account, in the role {}.", roles.join(" or ")),
        (_, true) => format!("An operator key, or an access key of the account in the role {}.", roles.join(" or ")),
    }
}

fn schema(shape: Shape, says: &str) -> RefOr<Schema> {
    let object = |kind: SchemaType| ObjectBuilder::new().schema_type(kind).description(Some(says));
    let one = |kind: Type| object(SchemaType::Type(kind));
    let or_null = |kind: Type| object(SchemaType::Array(vec![kind, Type::Null]));
    let time = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
    match shape {
        Shape::Text => one(Type::String).into(),
        Shape::OneOf(values) => one(Type::String).enum_values(Some(values.iter().copied())).into(),
        Shape::Number => one(Type::Integer).minimum(Some(0)).into(),
        Shape::NumberOrNull => or_null(Type::Integer).minimum(Some(0)).into(),
        Shape::Flag => one(Type::Boolean).into(),
        Shape::Day => one(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).into(),
        Shape::Time => one(Type::String).format(time).into(),
        Shape::TimeOrNull => or_null(Type::String).format(time).into(),
        Shape::Texts => {
            let text = ObjectBuilder::new().schema_type(Type::String);
            ArrayBuilder::new().items(RefOr::T(Schema::from(text.build()))).description(Some(says)).into()
        }
        Shape::Document(name) => Ref::from_schema_name(name).into(),
        Shape::Documents(name) => ArrayBuilder::new().items(Ref::from_schema_name(name)).description(Some(says)).into(),
    }
}

fn object(fields: &[Field]) -> ObjectBuilder {
    fields.iter().fold(ObjectBuilder::new().schema_type(Type::Object), |object, field| {
        let object = object.property(field.name, schema(field.shape, field.says));
        if field.required { object.required(field.name) } else { object }
    })
}

fn content(name: &str) -> ContentBuilder {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(name)))
}

fn parameter(place: ParameterIn, name: &str, required: bool, shape: Shape, says: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(if required { Required::True } else { Required::False })
        .description(Some(says))
        .schema(Some(schema(shape, says)))
        .build()
}

fn parameters(operation: ApiOperation, facts: &Facts) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    for (name, says) in [("account", "The account's name"), ("id", "The id")] {
        if operation.path().contains(&format!("{{{name}}}")) {
            parameters.push(parameter(ParameterIn::Path, name, true, Shape::Text, says));
        }
    }
    if let Some(filters) = facts.list {
        let says = format!("1 to {MOST}; default {USUAL}");
        parameters.push(parameter(ParameterIn::Query, "limit", false, Shape::Number, &says));
        let says = "From the page before; good for the same list and filter only";
        parameters.push(parameter(ParameterIn::Query, "next_token", false, Shape::Text, says));
        if filters == Filters::Expiring {
            let says = "Only what ends by itself within this time, e.g. 12h or 7d";
            parameters.push(parameter(ParameterIn::Query, "expiring", false, Shape::Text, says));
        }
    }
    if facts.conditional {
        let says = "The ETag that it was read with, or *";
        parameters.push(parameter(ParameterIn::Header, "If-Match", true, Shape::Text, says));
    }
    parameters
}

fn described(operation: ApiOperation) -> Operation {
    let facts = facts(operation);
    let mut answer = ResponseBuilder::new().description(facts.summary);
    answer = match facts.answer {
        Some(name) => answer.content("application/json", content(name).build()),
        None => answer.content("application/json", ContentBuilder::new().build()),
    };
    if facts.tagged {
        let text = schema(Shape::Text, "Its version: what If-Match names to change it");
        answer = answer.header("ETag", HeaderBuilder::new().schema(Some(text)).build());
    }
    let errors = ResponseBuilder::new()
        .description("Not done; the status and the codes say why")
        .content("application/json", content("Errors").build());
    let request = facts.request.map(|name| {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        body.content("application/json", content(name).build()).build()
    });
    OperationBuilder::new()
        .operation_id(Some(operation.label()))
        .summary(Some(facts.summary))
        .description(Some(who(operation)))
        .parameters(Some(parameters(operation, &facts)))
        .request_body(request)
        .response(facts.status.as_str(), answer.build())
        .response("default", errors.build())
        .build()
}

fn method(operation: ApiOperation) -> HttpMethod {
    match operation.method() {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn document() -> OpenApi {
    let paths = ApiOperation::ALL.into_iter().fold(PathsBuilder::new(), |paths, operation| {
        paths.path(operation.path(), PathItem::new(method(operation), described(operation)))
    });
    let mut key = Http::new(HttpAuthScheme::Bearer);
    key.description = Some("An access key (hyak_…) or an operator key (hyop_…)".to_owned());
    let components = DOCUMENTS.iter().fold(ComponentsBuilder::new(), |components, (name, fields)| {
        // An answer may get fields that a client of today does not know.
        let asked = ApiOperation::ALL.into_iter().any(|operation| facts(operation).request == Some(*name));
        let closed = (asked || *name == "PolicyChange").then_some(AdditionalProperties::FreeForm(false));
        components.schema(*name, object(fields).additional_properties(closed).build())
    });
    let components =
        components.schema("ErrorDetail", object(DETAIL).build()).security_scheme("key", SecurityScheme::Http(key));
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Hythe").version(env!("CARGO_PKG_VERSION")).build())
        .paths(paths.build())
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("key", Vec::<String>::new())]))
        .build()
}

#[cfg(test)]
mod tests;
