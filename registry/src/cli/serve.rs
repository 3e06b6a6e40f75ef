//! `hythe serve`: start, say what a newcomer needs, serve until told to stop.

use std::sync::Arc;

use auth::{Actor, Declared, MintRequest, NewAccount, NewKey, SecretName, Shown};
use clap::Args;
use config::{Config, LogFormat, Origin, SelfSigned, Store};
use storage::{AccountName, Clock, Lives};

use super::{
    Failure, output,
    reload::{self, Reloads},
    settings::Settings,
    store::rendered_host,
};
use crate::{
    Running, StartError, hosts,
    server::shutdown::{self, Drained},
    telemetry::{self, chain},
    traces::Traces,
};

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings<true>,
}

/// The checked settings of a server: what `config` cannot know of is checked here.
pub(super) fn configuration(settings: &Settings<true>) -> Result<Config, Failure> {
    let config = settings.load()?;
    account(&config)?;
    Declared::check(&config.accounts).map_err(|error| Failure::Usage(error.to_string()))?;
    telemetry::check(&config.log).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(config)
}

fn account(config: &Config) -> Result<Option<AccountName>, Failure> {
    let name = config.account.as_deref().map(str::parse::<AccountName>).transpose();
    name.map_err(|error| Failure::Usage(format!("account: {error}")))
}

pub(super) async fn run(command: Serve, clock: Arc<dyn Clock>, lives: Lives) -> Result<(), Failure> {
    let config = configuration(&command.settings)?;
    let first_account = account(&config)?;
    let traces =
        Traces::from_environment(|name| std::env::var(name).ok()).map_err(|error| Failure::Usage(error.to_string()))?;
    telemetry::init(&config.log, traces.as_ref()).map_err(|error| Failure::Usage(error.to_string()))?;
    // Watched before anything is announced: whoever reads "serving" may stop the server at once.
    let (mut signals, mut hangups) = (shutdown::Signals::watch()?, shutdown::Hangups::watch()?);
    let running = crate::start(config.clone(), clock, lives).await?;
    announce(&config, &running);
    if let Some(name) = first_account {
        Box::pin(welcome(&config, &running, &name)).await?;
    }
    let mut reloads = Reloads::new(&command.settings, config);
    let mut looks = tokio::time::interval(reload::LOOK);
    let signal = loop {
        let asked = tokio::select! {
            signal = signals.next() => break signal,
            () = hangups.next() => true,
            _ = looks.tick() => false,
            () = running.moved() => {
                let _as_far_as_it_came = running.shutdown().await;
                return Err(Failure::Failed(
                    "this store was moved away, so its server ends; open the store that it was moved to".to_owned(),
                ));
            }
            reason = running.failed() => {
                return Err(Failure::Failed(format!("the store failed and the server ends, so that it is opened afresh: {reason}")));
            }
        };
        tokio::select! {
            () = reloads.look(&running, asked) => {}
            // A store that does not answer must not keep the server from its end.
            signal = signals.next() => break signal,
        }
    };
    tracing::info!("{signal}: no new requests, waiting for those that run");
    let drained = tokio::select! {
        drained = running.shutdown() => drained,
        signal = signals.next() => {
            tracing::warn!("{signal} again: stopped at once");
            return Ok(());
        }
    };
    match drained {
        Drained::Clean => tracing::info!("stopped"),
        Drained::Cut { tasks } => tracing::warn!(tasks, "stopped; requests that took too long were cut off"),
    }
    if let Some(traces) = traces
        && let Ok(Err(error)) = tokio::task::spawn_blocking(move || traces.flush()).await
    {
        tracing::warn!(%error, "the last spans were not sent");
    }
    Ok(())
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Failed(chain(&error))
    }
}

fn announce(config: &Config, running: &Running) {
    let url = hosts::address_url(running.address, config.server.tls.is_some());
    let operations = running.operations_address.map(|address| address.to_string());
    tracing::info!(address = %running.address, operations, "serving {url}");
    if let Some(own) = &config.server.self_signed {
        trust(config, running, own);
    } else if config.server.public_urls.is_empty() && !running.address.ip().is_loopback() {
        tracing::warn!("no public URL is set, so only loopback names are answered; add names with --public-url");
    }
}

/// Says how machines come to trust the server's own authority.
fn trust(config: &Config, running: &Running, own: &SelfSigned) {
    let authority = own.folder.join("ca.crt");
    if config.log.format == LogFormat::Json {
        tracing::info!(authority = %authority.display(), "clients trust this server by its own authority");
        return;
    }
    let mut lines = vec![format!("clients trust this server by its own authority, {}; as root:", authority.display())];
    let file = quoted(&authority.display().to_string());
    for host in running.app.hosts.public().iter().map(|url| url.host().to_string()) {
        for folder in
            ["/etc/docker", "/etc/containers", "/etc/containerd"].map(|folder| format!("{folder}/certs.d/{host}"))
        {
            lines.push(format!("mkdir -p '{folder}' && cp {file} '{folder}/ca.crt'"));
        }
        let folder = format!("/etc/containerd/certs.d/{host}");
        lines.push(format!(
            r#"printf 'server = "https://%s"\n[host."https://%s"]\n  ca = "%s"\n' '{host}' '{host}' '{folder}/ca.crt' > '{folder}/hosts.toml'"#
        ));
    }
    output::say(&(lines.join("\n") + "\n"));
}

/// Makes the first account and says how to use it. A secret is printed to a terminal only, and once.
async fn welcome(config: &Config, running: &Running, name: &AccountName) -> Result<(), Failure> {
    let auth = &running.app.auth;
    let new = NewAccount { name: name.to_string(), display: String::new() };
    match auth.create_account(&Actor::Store, &new).await {
        Ok(_) => {}
        Err(auth::Error::Taken { .. }) => {
            output::say(&format!(
                "account {name} exists; new login: hythe credential create {name} --kind push {}",
                store_flags(config)
            ));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    if !output::terminal() {
        let flags = if named_by_flag(config) { format!(" {}", store_flags(config)) } else { String::new() };
        output::say(&format!("account {name} was made; run: hythe key create {name}{flags}"));
        return Ok(());
    }
    let key = auth.create_key(&Actor::Store, name, &NewKey::default()).await?;
    let push = MintRequest { kind: "push".to_owned(), ..MintRequest::default() };
    let minted = auth.mint(&Actor::Store, name, &push).await?;
    let hosts = &running.app.hosts;
    let rendered = rendered_host(hosts.canonical(), hosts.account_domain())?;
    let document = minted.document(&rendered, &SecretName::default());
    let (host, login) = (document.host, document.docker_login);
    let (login, key) = (
        login.as_ref().map(Shown::reveal).unwrap_or_default(),
        key.key.as_ref().map(Shown::reveal).unwrap_or_default(),
    );
    output::say(&format!(
        "account {name} was made. Log in and push:\n\n\
         {login}\n\
         docker pull hello-world\n\
         docker tag hello-world {host}/{name}/hello\n\
         docker push {host}/{name}/hello\n\n\
         keep this access key, it makes the next logins:\n{key}"
    ));
    Ok(())
}

/// The flags with which another command finds this store.
fn store_flags(config: &Config) -> String {
    match &config.store {
        Store::Folder(path) => format!("--data {}", quoted(&path.display().to_string())),
        Store::Remote { url, records: None } => format!("--store {}", quoted(url.as_str())),
        Store::Remote { url, records: Some(path) } => {
            format!("--store {} --records {}", quoted(url.as_str()), quoted(&format!("sqlite:{}", path.display())))
        }
    }
}

fn named_by_flag(config: &Config) -> bool {
    let named = |e: &&config::Effective| ["data", "store", "records"].contains(&e.key);
    config.effective.iter().filter(named).any(|e| matches!(e.origin, Origin::Flag(_)))
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use config::Sources;

    use super::*;

    #[test]
    fn the_next_command_finds_the_same_store() {
        let flags = |sources: Sources| {
            let config = config::load(&sources).unwrap();
            (store_flags(&config), named_by_flag(&config))
        };
        assert_eq!(flags(Sources::isolated()), ("--data ./data".to_owned(), false));
        let spaced = Sources::isolated().set("data", "/srv/my data's");
        assert_eq!(flags(spaced), (r"--data '/srv/my data'\''s'".to_owned(), true));
        let bucket = Sources::isolated().set("store", "s3://bucket/prefix").set("records", "sqlite:/r.db");
        assert_eq!(flags(bucket), ("--store s3://bucket/prefix --records sqlite:/r.db".to_owned(), true));
    }
}
