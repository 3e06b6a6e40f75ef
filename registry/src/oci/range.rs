//! Byte ranges: of downloads (RFC 9110 section 14) and of upload chunks (distribution-spec, "Pushing a blob in chunks").

use std::ops::Range;

/// A `Range` header that asks for one range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `bytes=A-B`, the end exclusive here; `bytes=A-`. An end before the start lies in no content.
    From(u64, Option<u64>),
    /// `bytes=-N`: the last N.
    Last(u64),
}

impl Asked {
    /// Reads the header. What is not one range of bytes is ignored, as RFC 9110 allows: the whole is served.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| -> Option<u64> {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
        };
        match (first.trim(), last.trim()) {
            ("", last) => number(last).map(Self::Last),
            (first, "") => number(first).map(|first| Self::From(first, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                Some(Self::From(first, Some(last.saturating_add(1))))
            }
        }
    }

    /// The range within `size` bytes; `None` if nothing of it lies there (416).
    pub(crate) fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, end) => first..end.unwrap_or(size).min(size),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// A chunk's `Content-Range`, `START-END` with the end inclusive; some clients put `bytes ` before or a size behind it.
pub(crate) fn chunk(header: &str) -> Option<Range<u64>> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| first..last.saturating_add(1))
}

/// The `Range` of a session that holds `have` bytes: `0-<last>`, `0-0` while nothing has arrived.
pub(crate) fn held(have: u64) -> String {
    format!("0-{}", have.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_and_everything_else_ignored() {
        let within = |header: &str| Asked::parse(header).map(|asked| asked.within(10));
        assert_eq!(within("bytes=0-3"), Some(Some(0..4)));
        assert_eq!(within("bytes=4-"), Some(Some(4..10)));
        assert_eq!(within("bytes=8-100"), Some(Some(8..10)));
        assert_eq!(within("bytes=-3"), Some(Some(7..10)));
        assert_eq!(within("bytes=-100"), Some(Some(0..10)));
        assert_eq!(within("bytes=10-"), Some(None));
        assert_eq!(within("bytes=-0"), Some(None));
        assert_eq!(
            within("bytes=3-1"),
            Some(None),
            "rejected, as RFC 9110 14.2 allows and the specification's program asks"
        );
        for ignored in ["bytes=0-1,3-4", "items=0-1", "bytes=", "bytes=-", "bytes=+1-2", "0-3"] {
            assert_eq!(within(ignored), None, "{ignored}");
        }
        assert_eq!(Asked::parse("bytes=0-18446744073709551615").unwrap().within(10), Some(0..10));
    }

    #[test]
    fn a_chunk_s_range_is_start_and_inclusive_end() {
        assert_eq!(chunk("0-4"), Some(0..5));
        assert_eq!(chunk("bytes 5-9/10"), Some(5..10));
        assert_eq!(chunk("bytes=5-9"), Some(5..10));
        for bad in ["", "5", "5-", "-5", "9-5", "a-b", "0x1-2", "+1-2"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }
}
