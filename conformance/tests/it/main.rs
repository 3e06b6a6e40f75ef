//! Every test through HTTP, in one binary; its tree mirrors the URLs and the promises.

#[cfg(test)]
mod account_hosts;
#[cfg(test)]
mod api;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod collection;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod cve;
#[cfg(test)]
mod declared;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod distribution;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod federation;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod quota;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod seal;
#[cfg(test)]
mod secret;
#[cfg(test)]
mod self_signed;
#[cfg(test)]
mod start;
#[cfg(test)]
mod workspace;
