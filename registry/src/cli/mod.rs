//! The command line: one file a command.
//!
//! What a command makes goes to stdout, everything else to stderr. An error is one line and exit code 1; a command line or a
//! configuration that cannot be used is one line and 64 (`EX_USAGE`).
//!
//! The same program called by another name speaks another's protocol: that of docker's credential helpers, or of a kubelet's.

mod account;
mod audit;
mod backup;
mod config;
mod copying;
mod credential;
mod credential_helper;
mod credential_provider;
mod cronjob;
mod declare;
mod gc;
mod key;
mod login;
mod login_cache;
mod manual;
mod moving;
mod operator_key;
mod output;
mod private_file;
mod reload;
mod repository;
mod restore;
mod retention;
mod secret_refresher;
mod serve;
mod server;
mod settings;
mod signing_key;
mod store;
mod tag;
mod trust;
mod usage;
mod verify;

use std::{path::Path, process::ExitCode, sync::Arc};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use storage::{Clock, Lives};

use crate::telemetry::chain;

/// Exit code of a command line or a configuration that cannot be used.
const USAGE: u8 = 64;

/// A self-hosted OCI registry in which every account has its own, private namespace.
#[derive(Debug, Parser)]
#[command(name = "hythe", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry
    Serve(serve::Serve),
    /// Make, list, change and delete accounts, on the store
    #[command(subcommand)]
    Account(account::Account),
    /// Make, list and end the access keys of an account, on the store
    #[command(subcommand)]
    Key(key::Key),
    /// Make, list and end operator keys, on the store
    #[command(subcommand)]
    OperatorKey(operator_key::OperatorKey),
    /// List and rotate the keys that sign access tokens, on the store
    #[command(subcommand)]
    SigningKey(signing_key::SigningKey),
    /// Mint, list and end credentials, through a server or on the store
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Let workloads exchange their own tokens for credentials, through a server or on the store
    #[command(subcommand)]
    Trust(trust::Trust),
    /// List, show, change and delete repositories, through a server
    #[command(subcommand)]
    Repository(repository::Repository),
    /// List and delete tags, through a server
    #[command(subcommand)]
    Tag(tag::Tag),
    /// Show, set and test the rules by which tags and manifests go, through a server
    #[command(subcommand)]
    Retention(retention::Retention),
    /// Count what an account keeps, or every account, through a server
    Usage(usage::Usage),
    /// Follow, export and verify what was done, through a server or on the store
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Tell what could be freed, and why it is kept; or have it collected now
    Gc(gc::Gc),
    /// Hash everything that is kept again, and report what is not as it was acknowledged
    Verify(verify::Verify),
    /// Copy the whole store to another place while it is served; again, and what has changed is copied
    Backup(backup::Backup),
    /// Make a store out of a backup
    Restore(restore::Restore),
    /// Move the whole store to another place: a folder to a bucket, or back, or from bucket to bucket
    Move(moving::Move),
    /// Keep pull Secrets of a Kubernetes cluster fresh, from access keys
    SecretRefresher(secret_refresher::SecretRefresher),
    /// Check or show the settings
    #[command(subcommand)]
    Config(config::Config),
    /// Print what completes commands in a shell
    Completion(manual::Completion),
    /// Print the manual page, or write one for every command
    Man(manual::Man),
}

/// Why a command did not do what it was asked: one line.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the configuration cannot be used.
    Usage(String),
    /// Anything else.
    Failed(String),
}

impl From<::config::Error> for Failure {
    fn from(error: ::config::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

macro_rules! failed {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Failed(chain(&error))
            }
        }
    )*};
}
failed!(std::io::Error, storage::Error);

impl From<auth::Error> for Failure {
    fn from(error: auth::Error) -> Self {
        match error {
            // A refused field is named by the flag it came from.
            auth::Error::Invalid(fields) => {
                let told = fields.iter().map(|invalid| format!("{}: {}", flag_of(&invalid.field), invalid.message));
                Self::Failed(told.collect::<Vec<_>>().join("; "))
            }
            other => Self::Failed(chain(&other)),
        }
    }
}

/// The flag that a field of a request is on the command line: `/repositories/1` is `--repository`.
fn flag_of(pointer: &str) -> String {
    let field =
        pointer.trim_start_matches("/policy").trim_start_matches("/grant").split('/').nth(1).unwrap_or_default();
    let flag = match field {
        "repositories" => "repository",
        "ttl_seconds" => "ttl",
        "max_ttl_seconds" => "max-ttl",
        "expires_at" => "expires",
        "actions" => "delete",
        "patterns" => "public",
        "algorithms" => "algorithm",
        other => return format!("--{}", other.replace('_', "-")),
    };
    format!("--{flag}")
}

/// What the program is called by, without its folder.
fn called() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs a program that answers one question and ends.
fn briefly<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(answer)
}

/// Parses the command line, runs the command and says how it ended.
pub(crate) fn main(clock: Arc<dyn Clock>, lives: Lives) -> ExitCode {
    match called().as_str() {
        credential_helper::NAME => return credential_helper::main(&clock),
        name if name.starts_with(credential_provider::NAME) => return credential_provider::main(&clock),
        _ => {}
    }
    let cli = match Cli::command().try_get_matches().and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Help and version are what was asked for.
            return match output::print(&error.render().to_string()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::say(&error.render().to_string());
            return ExitCode::from(USAGE);
        }
        Err(error) => return end(Err(Failure::Usage(usage(&error.render().to_string())))),
    };
    end(run(cli.command, clock, lives))
}

fn end(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(line)) => {
            output::say(&format!("hythe: {line}"));
            ExitCode::from(USAGE)
        }
        Err(Failure::Failed(line)) => {
            output::say(&format!("hythe: {line}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, clock: Arc<dyn Clock>, lives: Lives) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(command) => Box::pin(serve::run(command, clock, lives)).await,
            Command::Account(command) => Box::pin(account::run(command, clock)).await,
            Command::Key(command) => Box::pin(key::run(command, clock)).await,
            Command::OperatorKey(command) => Box::pin(operator_key::run(command, clock)).await,
            Command::SigningKey(command) => Box::pin(signing_key::run(command, clock)).await,
            Command::Credential(command) => Box::pin(credential::run(command, clock)).await,
            Command::Trust(command) => Box::pin(trust::run(command, clock)).await,
            Command::Repository(command) => Box::pin(repository::run(command)).await,
            Command::Tag(command) => Box::pin(tag::run(command)).await,
            Command::Retention(command) => Box::pin(retention::run(command)).await,
            Command::Usage(command) => Box::pin(usage::run(command)).await,
            Command::Audit(command) => Box::pin(audit::run(command, clock)).await,
            Command::Gc(command) => Box::pin(gc::run(command, clock, lives)).await,
            Command::Verify(command) => Box::pin(verify::run(command, clock)).await,
            Command::Backup(command) => Box::pin(backup::run(command, clock)).await,
            Command::Restore(command) => Box::pin(restore::run(command, clock)).await,
            Command::Move(command) => Box::pin(moving::run(command, clock)).await,
            Command::SecretRefresher(command) => Box::pin(secret_refresher::run(command, clock)).await,
            Command::Config(command) => Box::pin(config::run(command, clock)).await,
            Command::Completion(command) => manual::completion(&command),
            Command::Man(command) => manual::man(&command),
        }
    });
    // What is still at work had its time; a blocking call must not hold the process.
    runtime.shutdown_background();
    outcome
}

/// clap's message of several paragraphs on one line: what is wrong, its tip, and where help is.
fn usage(message: &str) -> String {
    let paragraphs = message.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "));
    let told: Vec<String> = paragraphs
        .filter(|p| !p.starts_with("Usage:") && !p.starts_with("For more information"))
        .map(|p| p.trim_start_matches("error: ").to_owned())
        .filter(|p| !p.is_empty())
        .collect();
    format!("{}; see hythe --help", told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bad_command_line_is_one_line() {
        for arguments in [&["hythe", "key", "create"][..], &["hythe", "serve", "--tls-cert"], &["hythe", "srve"]] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            let line = usage(&error.render().to_string());
            assert!(!line.contains('\n') && line.ends_with("; see hythe --help"), "{line}");
        }
        let error = Cli::try_parse_from(["hythe", "serve", "--lisen", "x"]).unwrap_err();
        let line = usage(&error.render().to_string());
        assert!(line.starts_with("unexpected argument '--lisen' found; tip: "), "{line}");
    }

    #[test]
    fn a_refused_field_is_named_by_its_flag() {
        let flags =
            ["/repositories/0", "/ttl_seconds", "/policy/max_ttl_pull", "/label", "/grant/repositories/1", "/match"];
        let expected = ["--repository", "--ttl", "--max-ttl-pull", "--label", "--repository", "--match"];
        assert_eq!(flags.map(flag_of), expected);
    }

    #[test]
    fn every_setting_is_a_flag_of_serve() {
        for setting in ::config::SETTINGS {
            let flag = format!("--{}=x", setting.flag());
            assert!(Cli::try_parse_from(["hythe", "serve", &flag]).is_ok(), "{flag}");
        }
    }
}
