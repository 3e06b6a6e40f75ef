//! Retention: which tags and manifests go by themselves, and why.
//!
//! Nothing does unless an account's rules say so. A rule takes *tags* away, never a manifest that another tag holds; a manifest goes
//! only where a rule has a word for untagged ones, and only when nothing names it any more. Of several rules the keeps are added up:
//! a tag goes when one of them covers it and none of them keeps it ([`judge`]).
//!
//! A tag is removed by the very version that was judged. A manifest goes as a blob does in collection: it is marked *dying* when
//! a pass finds nothing that names it, and a pass that begins as many days later as the rule says, in the store's own time, looks again
//! at everything that could name it and removes it by the version that it read. In between it is pulled as before. Whoever tags, indexes or promises a dying manifest flips it back, and the removal fails.

mod judge;
mod manifests;
mod pass;
mod pulls;
mod rule;

pub use judge::{Because, Judge, TagSeen, Verdict};
pub use pass::{Gone, Pass, Retainer, Turn, What, pass, preview};
pub use pulls::{Pulls, flush as flush_pulls};
pub(crate) use rule::any;
pub use rule::{Immutable, Keep, RULE_LIMIT, RepositoryPattern, Rule, Rules, change, get};
