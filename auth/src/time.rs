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
