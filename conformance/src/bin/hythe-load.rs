//! One measurement for `conformance/bench`: so many clients push or pull layers, and the bytes of a second are printed.
//!
//! `hythe-load push ADDRESS REPOSITORY BYTES CLIENTS ROUND` pushes one layer a client, all different, and prints bytes a
//! second and the digest of the last; `hythe-load pull ADDRESS PATH CLIENTS` pulls one path with every client.
//! `AUTHORIZATION` in the environment is sent as the header.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{env, error::Error, net::SocketAddr, thread, time::Duration};

use conformance::load::{Connection, Layer};
use storage::{Clock, clock::SystemClock};

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["push", address, repository, size, clients, round] => {
            let (size, clients, round) = (size.parse::<u64>()?, clients.parse::<u64>()?, round.parse::<u64>()?);
            let layers: Vec<Layer> = (0..clients).map(|client| Layer::new(round << 16 | client, size)).collect();
            let rate =
                measure(address, size * clients, &layers, |connection, layer| connection.push(repository, layer))?;
            println!("{rate} {}", layers.last().map_or("", |layer| &layer.digest));
        }
        ["pull", address, path, clients] => {
            let clients = vec![(); clients.parse()?];
            let size = Connection::open(address.parse()?, authorization().as_deref())?.pull(path)?;
            let rate = measure(address, size * clients.len() as u64, &clients, |connection, ()| {
                connection.pull(path).map(drop)
            })?;
            println!("{rate}");
        }
        _ => return Err("push ADDRESS REPOSITORY BYTES CLIENTS ROUND, or pull ADDRESS PATH CLIENTS".into()),
    }
    Ok(())
}

fn authorization() -> Option<String> {
    env::var("AUTHORIZATION").ok().filter(|value| !value.is_empty())
}

/// Runs `work` once for each item, all at the same time on a connection each; bytes a second.
fn measure<T: Sync>(
    address: &str,
    bytes: u64,
    items: &[T],
    work: impl Fn(&mut Connection, &T) -> std::io::Result<()> + Sync,
) -> Result<u64, Failed> {
    let address: SocketAddr = address.parse()?;
    let authorization = authorization();
    let clock = SystemClock::new();
    let begun = clock.elapsed();
    thread::scope(|scope| {
        let running: Vec<_> = items
            .iter()
            .map(|item| {
                scope.spawn(|| {
                    let mut connection = Connection::open(address, authorization.as_deref())?;
                    work(&mut connection, item)
                })
            })
            .collect();
        for thread in running {
            thread.join().map_err(|_| "a client panicked")??;
        }
        Ok::<_, Failed>(())
    })?;
    let took = clock.elapsed().saturating_sub(begun).max(Duration::from_micros(1));
    Ok(u64::try_from(u128::from(bytes) * 1_000_000 / took.as_micros())?)
}
