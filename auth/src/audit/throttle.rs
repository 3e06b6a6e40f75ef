//! Throttled addresses in the log: one line when it begins and one when it is over, however many requests there are between. An
//! address is nobody's, so no account's audit holds it, and strangers can fill none.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use parking_lot::Mutex;

use crate::limit::Neighbourhood;

/// Addresses that are followed; of more than that, the log says nothing.
const MOST: usize = 4096;
/// How long an address has to be quiet until it is over: so a begin comes once a minute at most.
const QUIET: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(crate) struct Throttled(Mutex<HashMap<Neighbourhood, Refused>>);

#[derive(Debug)]
struct Refused {
    address: IpAddr,
    last: Duration,
    count: u64,
}

impl Throttled {
    /// A request was refused because too many from its address had failed.
    pub(crate) fn refused(&self, from: IpAddr, now: Duration) {
        let mut table = self.0.lock();
        let neighbourhood = Neighbourhood::from(from);
        if let Some(known) = table.get_mut(&neighbourhood) {
            known.last = now;
            known.count += 1;
        } else if table.len() < MOST {
            table.insert(neighbourhood, Refused { address: from, last: now, count: 1 });
            tracing::info!(event = "throttle.start", client = %from, "too many failures: this address is slowed");
        }
    }

    /// Says of which addresses it is over.
    pub(super) fn tick(&self, now: Duration) {
        self.0.lock().retain(|_, refused| {
            let over = now.saturating_sub(refused.last) >= QUIET;
            if over {
                let (client, refused) = (refused.address, refused.count);
                tracing::info!(event = "throttle.end", %client, refused, "this address is slowed no more");
            }
            !over
        });
    }
}
