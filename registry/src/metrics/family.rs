//! What is measured: the one list of metrics. `/metrics`, the table in `docs/observability.md` and the tests are made from it.

/// What a metric's number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// As Prometheus spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Family {
    /// Its name, the unit in it.
    pub name: &'static str,
    /// What its number does.
    pub kind: Kind,
    /// The labels of its series.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident $name:literal $kind:ident [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) const $constant: &str = $name;)*

        /// Every metric, in the order of `/metrics`.
        pub const ALL: &[Family] = &[
            $(Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

families! {
    REQUESTS "hythe_requests_total" Counter ["operation", "status"]
        "Requests that ended. Status 499: the client left before it was answered.";
    REQUEST_DURATION "hythe_request_duration_seconds" Histogram ["operation"]
        "From the head of a request to the last byte of its answer.";
    IN_FLIGHT "hythe_requests_in_flight" Gauge []
        "Requests that are being answered.";
    INCOMPLETE "hythe_requests_incomplete_total" Counter ["operation"]
        "Requests whose client left, or whose store failed, before the last byte of the answer.";
    REFUSED "hythe_requests_refused_total" Counter ["reason"]
        "Requests that were refused for who asked: unauthenticated, invalid_token, insufficient_scope, denied, read_only, throttled, unavailable.";
    RECEIVED "hythe_received_bytes_total" Counter []
        "Bytes of request bodies.";
    SENT "hythe_sent_bytes_total" Counter []
        "Bytes of response bodies.";
    UPLOADS "hythe_uploads_in_flight" Gauge []
        "Requests that are sending blob bytes.";
    CONNECTIONS "hythe_connections" Gauge []
        "Open connections of the public listener.";
    STORE_DURATION "hythe_store_call_duration_seconds" Histogram ["part", "call"]
        "Calls of the store: part is records or bytes. A read ends when its first byte can be sent.";
    STORE_ERRORS "hythe_store_errors_total" Counter ["part", "call", "error"]
        "Calls of the store that failed: full, unavailable, unknown (a write that may or may not have happened), corrupt, other. A lost race is no failure.";
    DISK_FREE "hythe_disk_free_bytes" Gauge []
        "Free bytes of the disk under the data folder. Absent with a bucket.";
    DISK_SIZE "hythe_disk_size_bytes" Gauge []
        "Size of that disk.";
    DISK_RESERVE "hythe_disk_reserve_bytes" Gauge []
        "Uploads are refused (507) below this many free bytes: the rest is for deletes and revocations.";
    QUOTA "hythe_quota_used_ratio" Gauge []
        "What the account nearest to its quota uses of it, of those pushed to through this process within the hour: 1 is all. Absent without quotas.";
    AUTHLOG_AGE "hythe_authlog_age_seconds" Gauge []
        "Since the log of ended rights was last known to be read to its end: about 1. At revocation_bound requests are refused (503).";
    STALE_DECISIONS "hythe_stale_decisions_total" Counter []
        "Pulls that were let through although the log could not be read, because their account's on_stale says so.";
    AUTH_CACHE "hythe_auth_cache_bytes" Gauge ["cache"]
        "Memory of what is known of accounts, keys and credentials (records) and of verified tokens (tokens).";
    LIVE_CREDENTIALS "hythe_live_credentials_limit_ratio" Gauge ["of"]
        "The part of its limit of live credentials that the nearest one had come to, of keys and of accounts, among those that this process minted for within the last hour or two. At 1 mints are answered 429, which says whose limit it is.";
    CERTIFICATE_END "hythe_tls_certificate_not_after_seconds" Gauge ["name"]
        "When the certificate that is served for this name ends, Unix time. Absent without TLS.";
    READ_ONLY "hythe_read_only" Gauge []
        "1 while the whole registry refuses writes.";
    AUDIT_EVENTS "hythe_audit_events_total" Counter []
        "Events that this process has written into the audit.";
    AUDIT_DROPPED "hythe_audit_dropped_total" Counter []
        "Events that were lost because 16 MiB of them waited for the store. The next batch of each account tells how many were its own.";
    AUDIT_WAITING "hythe_audit_waiting_bytes" Gauge []
        "Bytes of events that wait to be written. Above a few hundred KiB the store is away or too slow.";
    COLLECT_PASSES "hythe_collect_passes_total" Counter []
        "Passes of collection over a repository.";
    COLLECT_MARKED "hythe_collect_marked_total" Counter []
        "Blobs that nothing names and no promise keeps, marked by a pass; any push brings them back.";
    COLLECT_REMOVED "hythe_collect_removed_total" Counter []
        "Blobs that a later pass took out of their repository.";
    COLLECT_DELETED "hythe_collect_deleted_total" Counter []
        "Data objects that were deleted because nobody used them.";
    COLLECT_DELETED_BYTES "hythe_collect_deleted_bytes_total" Counter []
        "Their bytes.";
    COLLECT_UPLOADS "hythe_collect_uploads_total" Counter []
        "Upload sessions that were taken away because their time was over.";
    COLLECT_ACCOUNTS "hythe_collect_account_keys_total" Counter []
        "Keys of deleted accounts that were swept.";
    COLLECT_FAILED "hythe_collect_failures_total" Counter []
        "Slices of collection that failed; they are made again.";
    RECLAIMABLE "hythe_reclaimable_bytes" Gauge ["cause"]
        "Bytes that could be freed, as this process's last round over all repositories found them: untagged (kept, because no rule says otherwise), grace, trash and uploads (these go by themselves). Absent before the first round's end.";
    BUILD "hythe_build_info" Gauge ["version"]
        "1.";
    STARTED "process_start_time_seconds" Gauge []
        "When this process started, Unix time.";
    CPU "process_cpu_seconds_total" Counter []
        "Processor time of this process.";
    MEMORY "process_resident_memory_bytes" Gauge []
        "Memory of this process that is resident: its own, and pages of files that the system can take back.";
    ANONYMOUS "process_resident_anonymous_bytes" Gauge []
        "The part of it that is the process's own.";
    OPEN_FILES "process_open_fds" Gauge []
        "Open file descriptors.";
    MAX_FILES "process_max_fds" Gauge []
        "The most it may open.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_what_they_count() {
        let names: BTreeSet<_> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}", family.name);
        }
    }
}
