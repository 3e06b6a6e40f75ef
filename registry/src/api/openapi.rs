//! `/api/v1/openapi.json` (OpenAPI 3.1), made from [`ApiOperation`] and the tables of its documents. Tests hold the tables to
//! what is read and written in truth.

mod documents;

use std::sync::LazyLock;

use auth::{Right, Role};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, Header, HeaderBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi,
    OpenApiBuilder, PathsBuilder, Ref, RefOr, Required, Response as Described, ResponseBuilder, Schema, Type,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem},
    request_body::RequestBodyBuilder,
    schema::{AdditionalProperties, AnyOfBuilder, ArrayBuilder, KnownFormat, SchemaFormat, SchemaType},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use self::documents::{DETAIL, DOCUMENTS, Field, Shape};
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

/// What the document says of an operation beside method, path and right.
struct Facts {
    summary: &'static str,
    request: Option<&'static str>,
    status: StatusCode,
    answer: Option<&'static str>,
    /// The other document that a parameter may make it answer with.
    or: Option<&'static str>,
    list: Option<Filters>,
    /// Parameters that have to be given, and what they are.
    named: &'static [(&'static str, &'static str)],
    /// Whether the answer has an `ETag`.
    tagged: bool,
    /// Whether the call needs `If-Match`.
    conditional: bool,
    /// Whether the answer sets the cookie of a session.
    cookie: bool,
}

const NAME: (&str, &str) = ("name", "The repository's path in the account, e.g. web/api");
const REPOSITORY: (&str, &str) = ("repository", NAME.1);

const OPEN: &str = "Open a session of the console: a cookie that acts as the key does";

fn facts(operation: ApiOperation) -> Facts {
    let plain = |summary, answer| Facts {
        summary,
        request: None,
        status: StatusCode::OK,
        answer: Some(answer),
        or: None,
        list: None,
        named: &[],
        tagged: false,
        conditional: false,
        cookie: false,
    };
    let made = |summary, request, answer| Facts {
        request: Some(request),
        status: StatusCode::CREATED,
        ..plain(summary, answer)
    };
    let replaced = |summary, request, answer| Facts {
        request: Some(request),
        tagged: true,
        conditional: true,
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
        ApiOperation::PublicSet => replaced("Say what anybody may pull", "Public", "Public"),
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
        ApiOperation::TrustList => list("The trust policies", "Trusts", Filters::None),
        ApiOperation::TrustCreate => Facts { tagged: true, ..made("Make a trust policy", "NewTrust", "Trust") },
        ApiOperation::TrustGet => Facts { tagged: true, ..plain("One trust policy", "Trust") },
        ApiOperation::TrustDelete => {
            Facts { conditional: true, ..plain("Delete a trust policy and end every credential it gave", "Ended") }
        }
        ApiOperation::RepositoryList => Facts {
            or: Some("Repository"),
            tagged: true,
            ..list("The repositories that the key reaches; with name, that one", "Repositories", Filters::Repositories)
        },
        ApiOperation::RepositoryChange => Facts {
            request: Some("RepositoryChange"),
            named: &[NAME],
            tagged: true,
            conditional: true,
            ..plain("Change a repository's settings: a merge patch", "Repository")
        },
        ApiOperation::RepositoryDelete => Facts {
            status: StatusCode::ACCEPTED,
            named: &[NAME],
            tagged: true,
            conditional: true,
            ..plain("Delete a repository and all that is in it; it is gone when reading it says 404", "Repository")
        },
        ApiOperation::TagList => list("The tags of a repository", "Tags", Filters::Tags),
        ApiOperation::TagDelete => Facts {
            status: StatusCode::NO_CONTENT,
            named: &[REPOSITORY, ("tag", "The tag")],
            conditional: true,
            answer: None,
            ..plain("Delete a tag; its manifest stays", "")
        },
        ApiOperation::RetentionGet => Facts { tagged: true, ..plain("The rules by which things go", "Retention") },
        ApiOperation::RetentionSet => replaced("Replace these rules", "NewRetention", "Retention"),
        ApiOperation::RetentionTest => Facts {
            request: Some("NewRetentionTest"),
            ..plain("What would go from a repository now, and why", "RetentionTested")
        },
        ApiOperation::UsageGet => list("How much the account keeps, counted now", "Usage", Filters::Slices),
        ApiOperation::UsageList => list("How much every account keeps, counted now", "Usages", Filters::Slices),
        ApiOperation::AuditList => list("What was done in the account, oldest first", "Events", Filters::Audit),
        ApiOperation::InstallationAuditList => {
            list("What was done to the installation and its accounts, oldest first", "Events", Filters::Audit)
        }
        ApiOperation::SessionOpen => Facts { status: StatusCode::CREATED, cookie: true, ..plain(OPEN, "Session") },
        ApiOperation::SessionGet => plain("Whose session it is", "Session"),
        ApiOperation::SessionClose => {
            Facts { cookie: true, ..plain("Close the session; what was minted in it lives out its time", "Ended") }
        }
    }
}

/// Who may, in words.
fn who(operation: ApiOperation) -> String {
    let Some(right) = operation.right() else { return "Any access key or operator key.".to_owned() };
    let roles: Vec<_> = right.roles().iter().copied().map(Role::as_str).collect();
    match right {
        Right::OpenSession => return "An access key in any role.".to_owned(),
        Right::OwnSession => return "A session.".to_owned(),
        _ => {}
    }
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
        Shape::Limit => one(Type::Integer).minimum(Some(1)).maximum(Some(MOST)).into(),
        Shape::NumberOrNull => or_null(Type::Integer).minimum(Some(0)).into(),
        Shape::Flag => one(Type::Boolean).into(),
        Shape::FlagOrNull => or_null(Type::Boolean).into(),
        Shape::TextOrNull => or_null(Type::String).into(),
        Shape::Day => one(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).into(),
        Shape::Time => one(Type::String).format(time).into(),
        Shape::TimeOrNull => or_null(Type::String).format(time).into(),
        Shape::Texts | Shape::TextsOrNull => {
            let text = ObjectBuilder::new().schema_type(Type::String);
            let array = ArrayBuilder::new().items(RefOr::T(Schema::from(text.build()))).description(Some(says));
            if matches!(shape, Shape::Texts) {
                return array.into();
            }
            array.schema_type(SchemaType::Array(vec![Type::Array, Type::Null])).into()
        }
        Shape::Quota => {
            let bytes = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
            let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["none"])).build();
            let null = ObjectBuilder::new().schema_type(Type::Null).build();
            AnyOfBuilder::new().item(bytes).item(word).item(null).description(Some(says)).into()
        }
        Shape::Keys => {
            let set = ObjectBuilder::new().schema_type(Type::Object).build();
            let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["discover"])).build();
            AnyOfBuilder::new().item(word).item(set).description(Some(says)).into()
        }
        Shape::TextsByName => {
            let text = ObjectBuilder::new().schema_type(Type::String).build();
            one(Type::Object).additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(text.into())))).into()
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
    for (name, says) in facts.named {
        parameters.push(parameter(ParameterIn::Query, name, true, Shape::Text, says));
    }
    for &name in facts.list.map(Filters::names).unwrap_or_default() {
        let default = format!("1 to {MOST}; default {USUAL}");
        let (required, shape, says) = match name {
            "limit" => (false, Shape::Limit, default.as_str()),
            "expiring" => (false, Shape::Text, "Only what ends by itself within this time, e.g. 12h or 7d"),
            "name_prefix" => (false, Shape::Text, "Only those whose path begins so"),
            "kind" => (false, documents::REPOSITORY_KINDS, "Only those of this kind"),
            "since" => (false, Shape::Text, "Only what was done from then on: a date, or a time as in the lines"),
            "name" => (false, Shape::Text, "This one, by its path in the account: the answer is no list then"),
            _ => (true, Shape::Text, NAME.1),
        };
        parameters.push(parameter(ParameterIn::Query, name, required, shape, says));
    }
    if facts.list.is_some() {
        let says = "From the page before; good for the same list and filter only";
        parameters.push(parameter(ParameterIn::Query, "next_token", false, Shape::Text, says));
    }
    if facts.conditional {
        let says = "The ETag that it was read with, or *";
        parameters.push(parameter(ParameterIn::Header, "If-Match", true, Shape::Text, says));
    }
    parameters
}

/// The statuses of what is not done, beside the one of what is; every one has the same document.
fn refusals(operation: ApiOperation, facts: &Facts) -> Vec<(StatusCode, &'static str)> {
    use StatusCode as S;
    let writes = operation.method() != Method::GET;
    let names = operation.path().contains("{account}");
    let right = operation.right().is_some();
    let asks = facts.list.is_some() || !facts.named.is_empty();
    let ends =
        matches!(operation, ApiOperation::RepositoryChange | ApiOperation::RepositoryDelete | ApiOperation::TagDelete);
    [
        (writes || asks, S::BAD_REQUEST, "The document is no JSON, or a field or parameter is unknown"),
        (true, S::UNAUTHORIZED, "No living key"),
        (right, S::FORBIDDEN, "The key may not, whatever exists"),
        (names, S::NOT_FOUND, "There is no such thing"),
        (writes, S::METHOD_NOT_ALLOWED, "Read-only; or what is immutable or pinned would move or go"),
        (writes, S::REQUEST_TIMEOUT, "The document stopped arriving"),
        (operation == ApiOperation::AccountCreate, S::CONFLICT, "The name is taken"),
        (ends, S::CONFLICT, "The repository is being deleted, or changed meanwhile"),
        (facts.conditional, S::PRECONDITION_FAILED, "It is no longer what If-Match names; ETag is its version now"),
        (writes, S::PAYLOAD_TOO_LARGE, "The document has more than a mebibyte"),
        (true, S::MISDIRECTED_REQUEST, "The registry does not answer to this host name"),
        (
            asks || facts.request.is_some(),
            S::UNPROCESSABLE_ENTITY,
            "Fields or parameters cannot be accepted, all of them told",
        ),
        (facts.conditional, S::PRECONDITION_REQUIRED, "If-Match is missing"),
        (true, S::TOO_MANY_REQUESTS, "Too many calls, or more than a limit allows"),
        (true, S::INTERNAL_SERVER_ERROR, "The registry failed; detail.request_id is in its log"),
        (true, S::SERVICE_UNAVAILABLE, "The store cannot be reached"),
    ]
    .into_iter()
    .filter_map(|(may, status, says)| may.then_some((status, says)))
    .collect()
}

fn header(says: &str) -> Header {
    HeaderBuilder::new().schema(Some(schema(Shape::Text, says))).description(Some(says)).build()
}

/// An answer with the headers that every answer has.
fn response(says: &str) -> ResponseBuilder {
    let answer = ResponseBuilder::new().description(says);
    answer.header("X-Request-Id", header("The request's id in the log")).header("Cache-Control", header("no-store"))
}

fn refused(status: StatusCode, says: &str) -> Described {
    let answer = response(says).content("application/json", content("Errors").build());
    let answer = match status {
        StatusCode::UNAUTHORIZED => answer.header("WWW-Authenticate", header("Bearer")),
        StatusCode::METHOD_NOT_ALLOWED => answer.header("Allow", header("The methods that are")),
        StatusCode::PRECONDITION_FAILED => answer.header("ETag", header("Its version now")),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            answer.header("Retry-After", header("Seconds to wait, where that is known"))
        }
        _ => answer,
    };
    answer.build()
}

fn described(operation: ApiOperation) -> Operation {
    let facts = facts(operation);
    let mut answer = response(facts.summary);
    answer = match (facts.answer, facts.or) {
        (Some(name), None) => answer.content("application/json", content(name).build()),
        (Some(name), Some(other)) => {
            let any = AnyOfBuilder::new().item(Ref::from_schema_name(name)).item(Ref::from_schema_name(other));
            answer.content("application/json", ContentBuilder::new().schema(Some(Schema::from(any.build()))).build())
        }
        (None, _) if facts.status == StatusCode::NO_CONTENT => answer,
        (None, _) => answer.content("application/json", ContentBuilder::new().build()),
    };
    if facts.tagged {
        let only = if facts.or.is_some() { ", where one is read" } else { "" };
        answer = answer.header("ETag", header(&format!("Its version: what If-Match names to change it{only}")));
    }
    if facts.cookie {
        answer = answer.header("Set-Cookie", header("__Host-hythe: the session, or that it is over"));
    }
    if facts.status == StatusCode::CREATED {
        answer = answer.header("Location", header("Its path"));
    }
    let request = facts.request.map(|name| {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        body.content("application/json", content(name).build()).build()
    });
    let described = OperationBuilder::new()
        .operation_id(Some(operation.label()))
        .summary(Some(facts.summary))
        .description(Some(who(operation)))
        .parameters(Some(parameters(operation, &facts)))
        .request_body(request)
        .securities(Some(security(operation)))
        .response(facts.status.as_str(), answer.build());
    let refusals = refusals(operation, &facts).into_iter();
    refusals
        .fold(described, |described, (status, says)| described.response(status.as_str(), refused(status, says)))
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

fn requirement(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new(scheme, Vec::<String>::new())
}

/// What may be presented for it: any of these.
fn security(operation: ApiOperation) -> Vec<SecurityRequirement> {
    match operation.right() {
        Some(Right::OpenSession) => vec![requirement("key")],
        Some(Right::OwnSession) => vec![requirement("session")],
        Some(right) if right.roles().is_empty() => vec![requirement("key")],
        _ => vec![requirement("key"), requirement("session")],
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
        let closed = (asked || name.ends_with("Change") || name.starts_with("New"))
            .then_some(AdditionalProperties::FreeForm(false));
        components.schema(*name, object(fields).additional_properties(closed).build())
    });
    let says = "A session of the console, opened with an access key. What changes something needs Origin, the registry's own, and X-Hythe: 1";
    let session = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description("__Host-hythe", says)));
    let components = components
        .schema("ErrorDetail", object(DETAIL).build())
        .security_scheme("key", SecurityScheme::Http(key))
        .security_scheme("session", session);
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Hythe").version(env!("CARGO_PKG_VERSION")).build())
        .paths(paths.build())
        .components(Some(components.build()))
        .security(Some([requirement("key"), requirement("session")]))
        .build()
}

#[cfg(test)]
mod tests;
