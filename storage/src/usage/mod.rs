//! How much an account keeps: a count that is always right and costs a walk, and a sum that is at hand and may be off.
//!
//! *The count* ([`count`]) looks at every repository, a bounded slice at a time. *The sum* is kept by counters: each process adds
//! what it made and removed to a counter of its own, once a second at most ([`flush`]), so no commit waits for it and no two
//! processes write one key. What an account uses is a base and what the counters have moved since: [`Sum`]s are added, and
//! nothing else is agreed on. A process that dies loses what it had not written; a recount ([`Recounter`]) makes a new base
//! once an account is quiet, and then sum and count are one.
//!
//! A quota is compared with the sum before a byte is taken ([`crate::Writable::within`]). Storage knows no accounts' documents: the
//! limit comes with the capability, so that whoever can write cannot forget it, and one request is decided by one reading of
//! the account.

mod count;
mod counter;
mod quota;
mod recount;

pub use count::{BUDGET, Usage, count};
pub use counter::{Counters, Sum, flush, used};
pub use quota::size;
pub(crate) use quota::{Room, room};
pub use recount::{Recounter, Turn};
