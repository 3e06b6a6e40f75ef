use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use storage::Time;

/// Reads a date or a time as people write it; a date means its first moment, UTC.
pub fn parse_time(text: &str) -> Result<Time, &'static str> {
    let date = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc());
    let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc));
    time.or_else(date).ok_or("expected a date or time, like 2027-01-31 or 2027-01-31T12:00:00Z")
}

/// RFC 3339 in UTC with milliseconds: how every document of the API shows a time.
pub(crate) mod millis {
    use chrono::SecondsFormat;
    use serde::Serializer;
    use storage::Time;

    pub(crate) fn serialize<S: Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    pub(crate) mod option {
        use super::{Serializer, Time};

        #[expect(clippy::ref_option, reason = "the signature that serde's `with` calls")]
        pub(crate) fn serialize<S: Serializer>(at: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }
    }
}
