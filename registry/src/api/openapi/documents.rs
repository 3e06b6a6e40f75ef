//! The documents of the API, field by field.

/// What stands in a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    Texts,
    TextsOrNull,
    OneOf(&'static [&'static str]),
    Number,
    Limit,
    NumberOrNull,
    Flag,
    FlagOrNull,
    TextOrNull,
    Day,
    Time,
    TimeOrNull,
    /// A number of bytes, `"none"`, or `null`.
    Quota,
    /// A set of keys, or where they are.
    Keys,
    TextsByName,
    Document(&'static str),
    Documents(&'static str),
}

/// A field of a document.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    pub(super) says: &'static str,
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
const KINDS_AND_SESSION: Shape = Shape::OneOf(&["pull", "push", "session"]);
pub(super) const REPOSITORY_KINDS: Shape = Shape::OneOf(&["image", "chart", "artifact"]);
const PARTIES: Shape = Shape::OneOf(&[
    "credential",
    "key",
    "session",
    "operator_key",
    "operator",
    "oidc",
    "configuration",
    "registry",
    "anonymous",
]);
const IMMUTABLE: Shape = Shape::OneOf(&["keep", "may-remove"]);
const CIDRS: &str = "Networks as CIDR texts; none: from anywhere";

/// The documents by name.
pub(super) const DOCUMENTS: [(&str, &[Field]); 43] = [
    (
        "Account",
        &[
            must("name", Shape::Text, "First segment of its repositories"),
            must("generation", Shape::Text, "Another one each time an account of this name is made"),
            must("display", Shape::Text, "A name for people"),
            must("state", STATES, "What it is allowed now"),
            must("created_at", Shape::Time, "When this generation was made"),
            must(
                "hosts",
                Shape::Texts,
                "Names of its own that the operator approved; the first is in what is rendered",
            ),
            must("on_stale", ON_STALE, "What becomes of pulls while the store cannot be read"),
            must("policy", Shape::Document("Policy"), "What its credentials are held to"),
            must(
                "quota_bytes",
                Shape::Quota,
                "What it may keep; \"none\": no quota; null: what the server's default_quota says",
            ),
        ],
    ),
    (
        "Policy",
        &[
            may("max_ttl_pull", Shape::Number, "Longest life of a pull credential in seconds; absent: 30 days"),
            may("max_ttl_push", Shape::Number, "Longest life of a push credential in seconds; absent: 24 hours"),
            may("ip_allow", Shape::Texts, CIDRS),
            may("audit_days", Shape::Number, "Whole days that its audit is kept; absent: 400"),
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
            may("hosts", Shape::Texts, "Names of its own, in the place of those that it has; the operator's"),
            may("policy", Shape::Document("PolicyChange"), "An owner only lowers it"),
            may(
                "quota_bytes",
                Shape::Quota,
                "What it may keep; \"none\": no quota; null returns to the default; the operator's",
            ),
        ],
    ),
    (
        "PolicyChange",
        &[
            may("max_ttl_pull", Shape::NumberOrNull, "60 seconds to 90 days; null returns to the default"),
            may("max_ttl_push", Shape::NumberOrNull, "60 seconds to 90 days; null returns to the default"),
            may("ip_allow", Shape::Texts, CIDRS),
            may("audit_days", Shape::NumberOrNull, "1 to 3650; null returns to the default; the operator's"),
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
            must("kind", KINDS_AND_SESSION, "What it is for; in lists also sessions of the console"),
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
            must(
                "type",
                Shape::OneOf(&["key", "session", "operator", "oidc"]),
                "A key, a session of one, whoever works on the store, a trust policy",
            ),
            must("id", Shape::Text, "The id of the key, the session or the trust policy"),
            may("subject", Shape::Text, "Whose token was exchanged, as its issuer calls it"),
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
    (
        "Session",
        &[
            must("id", Shape::Text, "Its id: what revokes it, as a credential"),
            must("account", Shape::Text, "Its account"),
            must("role", ROLES, "What it may do: the role of its key"),
            must("key", Shape::Text, "The id of the access key that it acts as"),
            must("label", Shape::Text, "What people call that key"),
            must("created_at", Shape::Time, "When it was opened"),
            must("expires_at", Shape::Time, "When it ends by itself"),
        ],
    ),
    ("Ended", &[must("effective_by", Shape::Time, "From then on no replica honours it")]),
    (
        "Trust",
        &[
            must("id", Shape::Text, "Its id: what an exchange names"),
            must("account", Shape::Text, "Its account"),
            must("label", Shape::Text, "What people call it"),
            must("issuer", Shape::Text, "Whose tokens are taken: their iss"),
            must("audience", Shape::Text, "What their aud holds"),
            must("jwks", Shape::Keys, "The issuer's keys, or that they are asked for"),
            must("algorithms", Shape::Texts, "How the tokens may be signed"),
            must("match", Shape::TextsByName, "What their claims are"),
            must("grant", Shape::Document("TrustGrant"), "What they are good for"),
            must("single_use", Shape::Flag, "Whether each is good once"),
            must("created_at", Shape::Time, "When it was made"),
            must("expires_at", Shape::TimeOrNull, "When it ends by itself"),
        ],
    ),
    (
        "TrustGrant",
        &[
            must("actions", Shape::Texts, "What the credentials may do"),
            must("repositories", Shape::Texts, "Patterns that they reach"),
            must("max_ttl_seconds", Shape::Number, "How long they live"),
        ],
    ),
    (
        "NewTrust",
        &[
            may("label", Shape::Text, "What people call it"),
            must(
                "issuer",
                Shape::Text,
                "The iss of the tokens, byte for byte; to be asked for its keys it has to be trusted",
            ),
            may("audience", Shape::TextOrNull, "What their aud has to hold; default: HOST/ACCOUNT"),
            may("jwks", Shape::Keys, "Its keys, public halves (RFC 7517), or \"discover\"; default: discover"),
            may("algorithms", Shape::TextsOrNull, "RS256, ES256, EdDSA; default: RS256, or what the keys are for"),
            must(
                "match",
                Shape::TextsByName,
                "Claims by name, or by JSON pointer; * stands for any characters but : and /; one at least without it",
            ),
            must("grant", Shape::Document("NewTrustGrant"), "What they are good for"),
            may("single_use", Shape::FlagOrNull, "Whether each is good once; default: yes unless they only pull"),
            may("expires_at", Shape::TimeOrNull, "When it ends by itself"),
        ],
    ),
    (
        "NewTrustGrant",
        &[
            must("actions", Shape::Texts, "pull, push, delete"),
            may("repositories", Shape::TextsOrNull, "Patterns, e.g. acme/web/*; default: the whole account"),
            may("max_ttl_seconds", Shape::NumberOrNull, "How long the credentials live; default: an hour"),
        ],
    ),
    ("Trusts", &[must("items", Shape::Documents("Trust"), "Oldest first"), NEXT]),
    ("Accounts", &[must("items", Shape::Documents("Account"), "In order of their names"), NEXT]),
    ("AccessKeys", &[must("items", Shape::Documents("AccessKey"), "Oldest first"), NEXT]),
    ("Credentials", &[must("items", Shape::Documents("Credential"), "Oldest first"), NEXT]),
    (
        "Repository",
        &[
            must("name", Shape::Text, "Its path in the account"),
            may("kind", REPOSITORY_KINDS, "What was pushed under a tag last; absent before that"),
            must("status", Shape::OneOf(&["active", "deleting"]), "Whether its deletion was ordered"),
            must("settings", Shape::Document("RepositorySettings"), "What its account says of it"),
            may("tag_count", Shape::Number, "How many tags it has: where one repository is read, and up to 1000"),
            must("created_at", Shape::Time, "When the first push made it"),
            must("updated_at", Shape::Time, "When something was pushed under a tag last, to within a minute"),
        ],
    ),
    (
        "RepositorySettings",
        &[must("immutable_tags", Shape::Texts, "Tags that match one are set once: * stands for any characters")],
    ),
    ("RepositoryChange", &[may("settings", Shape::Document("RepositorySettingsChange"), "What is left out stays")]),
    (
        "RepositorySettingsChange",
        &[may(
            "immutable_tags",
            Shape::TextsOrNull,
            "At most 64 patterns such as v* or 1.0; null: no tag is immutable",
        )],
    ),
    (
        "Repositories",
        &[must("items", Shape::Documents("Repository"), "In order of their names, those that the key reaches"), NEXT],
    ),
    (
        "Tag",
        &[
            must("tag", Shape::Text, "The tag"),
            must("digest", Shape::Text, "The manifest it points at; in quotes, what If-Match names to delete it"),
            must("size_bytes", Shape::Number, "Size of that manifest"),
            must("media_type", Shape::Text, "Its media type"),
            must("updated_at", Shape::Time, "When it was moved there"),
        ],
    ),
    ("Tags", &[must("items", Shape::Documents("Tag"), "In byte order"), NEXT]),
    ("Retention", &[must("rules", Shape::Documents("RetentionRule"), "In no order: what one keeps is kept")]),
    ("NewRetention", &[must("rules", Shape::Documents("NewRetentionRule"), "At most 64")]),
    (
        "RetentionRule",
        &[
            must("repositories", Shape::Text, "Paths in the account; * is one segment, ** at the end the rest"),
            must("tags", Shape::Texts, "Patterns of tags; none: every tag"),
            may("keep", Shape::Document("NewRetentionKeep"), "Which of these tags stay; absent: it is not about tags"),
            may("untagged_days", Shape::Number, "After so many days unnamed a manifest goes; absent: it stays"),
            must("immutable", IMMUTABLE, "What becomes of immutable tags"),
        ],
    ),
    (
        "NewRetentionRule",
        &[
            must("repositories", Shape::Text, "Paths in the account; * is one segment, ** at the end the rest"),
            may("tags", Shape::Texts, "Patterns of tags; none: every tag"),
            may("keep", Shape::Document("NewRetentionKeep"), "Which of these tags stay"),
            may("untagged_days", Shape::NumberOrNull, "1 to 3650"),
            may("immutable", IMMUTABLE, "What becomes of immutable tags; default: keep"),
        ],
    ),
    (
        "NewRetentionKeep",
        &[
            may("last", Shape::NumberOrNull, "So many, those pushed last; at most 1000"),
            may("pushed_within_days", Shape::NumberOrNull, "Those pushed within so many days, 1 to 3650"),
            may("pulled_within_days", Shape::NumberOrNull, "Those pulled within so many days; never pulled: pushed"),
        ],
    ),
    (
        "NewRetentionTest",
        &[
            must("repository", Shape::Text, "Its path in the account"),
            may("rules", Shape::Documents("NewRetentionRule"), "Rules to try; absent: the account's"),
        ],
    ),
    (
        "RetentionTested",
        &[
            must("items", Shape::Documents("RetentionGone"), "What would go, at most 1000"),
            must("more", Shape::Flag, "Whether there is more"),
        ],
    ),
    (
        "RetentionGone",
        &[
            may("tag", Shape::Text, "The tag; absent: the manifest itself"),
            must("digest", Shape::Text, "The manifest"),
            must("why", Shape::Text, "Why"),
        ],
    ),
    (
        "Usage",
        &[
            must("account", Shape::Text, "The account"),
            must("repositories", Shape::Number, "Repositories that this answer begins to count"),
            must("tags", Shape::Number, "Tags"),
            must("manifests", Shape::Number, "Manifests"),
            must("blobs", Shape::Number, "Blobs, once for each repository that contains them"),
            must("bytes", Shape::Number, "Bytes of these blobs"),
            must("stored_bytes", Shape::Number, "Bytes that are kept for them: what repositories share counts once"),
            must("used_bytes", Shape::Number, "What the running sum says of bytes: a quota is compared with it"),
            must("quota_bytes", Shape::NumberOrNull, "What the account may use; null: no quota"),
            must("left_bytes", Shape::NumberOrNull, "What it may still take; null: no quota"),
            must("complete", Shape::Flag, "Whether this is the whole account; if not, the answers add up to it"),
            may("next_token", Shape::Text, "Where the count goes on"),
        ],
    ),
    (
        "Usages",
        &[must("items", Shape::Documents("Usage"), "By name; of an account in several parts, the parts add up"), NEXT],
    ),
    (
        "Event",
        &[
            must("ts", Shape::Time, "When"),
            must("event", Shape::Text, "What"),
            must("account", Shape::TextOrNull, "The account that it concerns; null: the installation"),
            must("gen", Shape::Text, "Its generation; twelve 0: the installation"),
            must("actor", Shape::Document("Party"), "Who"),
            must("target", Shape::TextOrNull, "What it was done to"),
            must("ip", Shape::TextOrNull, "The client's address; null for a command on the store"),
            must("user_agent", Shape::TextOrNull, "What the client calls itself"),
            must("request_id", Shape::TextOrNull, "The request, in its answer and in the log"),
            must("outcome", Shape::OneOf(&["ok", "denied"]), "How it went"),
            must("reason", Shape::TextOrNull, "Why it was denied"),
        ],
    ),
    (
        "Party",
        &[
            must("type", PARTIES, "What it is"),
            must("id", Shape::TextOrNull, "Its id"),
            must("label", Shape::TextOrNull, "What it is called"),
        ],
    ),
    ("Events", &[must("items", Shape::Documents("Event"), "In the order they were written"), NEXT]),
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
/// Where the next page of a list begins.
const NEXT: Field =
    may("next_token", Shape::Text, "Where the list goes on; absent at its end. A page may be shorter than its limit");
/// Kept apart: it is open, and what it holds depends on the error.
pub(super) const DETAIL: &[Field] = &[
    may("field", Shape::Text, "JSON pointer to a field of the request, or ? and the name of a parameter"),
    may("request_id", Shape::Text, "With a 5xx: what the operator finds the reason by"),
];
