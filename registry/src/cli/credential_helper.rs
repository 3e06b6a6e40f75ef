//! `docker-credential-hythe`: the protocol of docker's credential helpers, which podman, skopeo, buildah and oras speak too.
//!
//! A login is minted when a client asks for one and kept until half of its life is over, so a machine whose key is good is
//! always logged in. Answers and reasons go to stdout: that is where clients read both.

mod source;

use std::{io::Read as _, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use config::HostName;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::Clock;

use self::source::{Source, Sources};
use super::{login, login_cache::LoginCache, output, server::variable};
use crate::telemetry::chain;

/// What clients look for: it means "ask elsewhere", and is no failure.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// How much of standard input is read.
const INPUT: u64 = 64 * 1024;

/// Logs docker, podman, skopeo, buildah and oras in to a Hythe registry, by an access key.
///
/// Clients run it, because their configuration names it for a host. A person runs "store", once for each host, with an access
/// key.
#[derive(Debug, Parser)]
#[command(name = NAME, version, disable_help_subcommand = true)]
pub(super) struct Helper {
    #[command(subcommand)]
    verb: Verb,
}

/// The name that it is called by.
pub(super) const NAME: &str = "docker-credential-hythe";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print a login for the host on standard input
    Get,
    /// Keep the access key on standard input for its host; the user name is the account, or ACCOUNT.push to push
    Store,
    /// Forget the login of the host on standard input; its access key stays
    Erase,
    /// Print the hosts and their user names
    List,
    /// Print the version
    Version,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    #[serde(rename = "ServerURL")]
    server: String,
    username: String,
    secret: String,
}

/// Answers one question.
pub(super) fn main(clock: &Arc<dyn Clock>) -> ExitCode {
    let helper = match Helper::try_parse() {
        Ok(helper) => helper,
        Err(error) => {
            let good = !error.use_stderr();
            let shown = output::print(&error.render().to_string());
            return if good && shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let outcome = super::briefly(answer(&helper.verb, &**clock));
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(reason) => (reason, ExitCode::FAILURE),
    };
    match output::print(&text) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn answer(verb: &Verb, clock: &dyn Clock) -> Result<String, String> {
    match verb {
        Verb::Version => Ok(format!("{NAME} {}", env!("CARGO_PKG_VERSION"))),
        Verb::Get => get(&input()?, clock).await,
        Verb::Store => store(&input()?, clock),
        Verb::Erase => erase(&input()?),
        Verb::List => list(clock),
    }
}

async fn get(asked: &str, clock: &dyn Clock) -> Result<String, String> {
    let (host, source) = match host(asked) {
        Some(host) => {
            let source = sources()?.of(&host)?;
            (host, source.ok_or(NOT_FOUND)?)
        }
        None => return Err(NOT_FOUND.to_owned()),
    };
    let mint = async || {
        let source = source.check(&host)?;
        let server = login::server(&source.url, source.key, source.ca_file.as_deref())?;
        let minted = login::mint(&server, &source.account, &source.order, None, clock).await;
        minted.map_err(|error| chain(&error))
    };
    let login = logins()?.get(&host.to_string(), clock, |error| error, mint).await?;
    let answer = json!({"ServerURL": asked.trim(), "Username": login.username, "Secret": login.password.reveal()});
    Ok(answer.to_string())
}

fn store(given: &str, clock: &dyn Clock) -> Result<String, String> {
    let given: Given = serde_json::from_str(given).map_err(|error| format!("standard input: {error}"))?;
    let host = host(&given.server).ok_or_else(|| format!("{}: expected HOST or HOST:PORT", given.server))?;
    // `docker login HOST` asks for a login, tries it and stores what it was given.
    let kept = logins()?.kept(&host.to_string(), clock.now());
    if kept.is_some_and(|login| login.username == given.username && login.password.matches(&given.secret)) {
        return Ok(String::new());
    }
    let url = given.server.starts_with("http://").then(|| format!("http://{host}"));
    sources()?.keep(&host, &Source::stored(&given.username, &given.secret, url)?)?;
    // What was minted with the key before is not of this one.
    logins()?.forget(&host.to_string()).map_err(|error| error.to_string())?;
    Ok(String::new())
}

fn erase(asked: &str) -> Result<String, String> {
    if let Some(host) = host(asked) {
        logins()?.forget(&host.to_string()).map_err(|error| error.to_string())?;
    }
    Ok(String::new())
}

fn list(clock: &dyn Clock) -> Result<String, String> {
    let logins = logins()?;
    let name = |(host, source): (String, Source)| {
        let kept = logins.kept(&host, clock.now()).map(|login| login.username);
        let name = kept.unwrap_or_else(|| format!("{}.{}", source.account, source.kind.as_str()));
        (host, Value::from(name))
    };
    let hosts: serde_json::Map<String, Value> = sources()?.all()?.into_iter().map(name).collect();
    Ok(Value::Object(hosts).to_string())
}

/// The host that a client means: docker asks for `HOST`, others for `https://HOST/`.
fn host(asked: &str) -> Option<HostName> {
    let asked = asked.trim();
    let rest = asked.split_once("://").map_or(asked, |(_, rest)| rest);
    rest.split('/').next()?.parse().ok()
}

fn input() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().take(INPUT).read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    Ok(text)
}

fn folder() -> Result<PathBuf, String> {
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")));
    config.map(|config| config.join("hythe/docker")).ok_or_else(|| "neither XDG_CONFIG_HOME nor HOME is set".to_owned())
}

fn sources() -> Result<Sources, String> {
    Sources::open(folder()?.join("sources"))
}

fn logins() -> Result<LoginCache, String> {
    LoginCache::open(&folder()?.join("logins"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_in_every_form_that_clients_ask_in() {
        let shown = |asked| host(asked).map(|host| host.to_string());
        for asked in
            ["registry.example", "https://registry.example/", "https://registry.example/v1/\n", "Registry.Example"]
        {
            assert_eq!(shown(asked).as_deref(), Some("registry.example"), "{asked}");
        }
        assert_eq!(shown("http://127.0.0.1:5080").as_deref(), Some("127.0.0.1:5080"));
        for asked in ["", "../sources/x", "a b"] {
            assert_eq!(shown(asked), None, "{asked}");
        }
    }
}
