//! `hythe key declare`: a key for the configuration, made without a store.

use std::{path::PathBuf, sync::Arc};

use auth::{Declared, Role, Shown, declare_key};
use clap::Args;
use config::{DeclaredAccount, DeclaredKey, Origin};
use serde::Serialize;
use storage::{AccountName, Clock, Generation, Time};

use super::{
    Failure,
    output::{Output, say},
    store::{shown, time},
};

#[derive(Debug, Args)]
pub(super) struct Declare {
    account: AccountName,
    /// The gen that the file has for this account already (default: a new one)
    #[arg(long = "gen", value_name = "G")]
    generation: Option<Generation>,
    /// owner, publisher, installer or viewer
    #[arg(long, default_value = "owner", value_parser = |text: &str| text.parse::<Role>())]
    role: Role,
    /// Let a publisher's credentials delete
    #[arg(long)]
    delete: bool,
    /// What people call it
    #[arg(long, default_value = "")]
    label: String,
    /// Where it reaches, e.g. acme/web/* (repeatable)
    #[arg(long, value_name = "PATTERN")]
    repository: Vec<String>,
    /// When it ends by itself
    #[arg(long, value_name = "DATE", value_parser = time)]
    expires: Option<Time>,
    #[command(flatten)]
    output: Output,
}

/// A declaration and its secret, `key`, which is shown here and nowhere else.
#[derive(Debug, Serialize)]
struct Document {
    account: AccountName,
    #[serde(rename = "gen")]
    generation: Generation,
    id: String,
    key: Shown,
    hash: String,
    /// The lines for the file.
    toml: String,
}

pub(super) fn run(command: Declare, clock: &Arc<dyn Clock>) -> Result<(), Failure> {
    let known = command.generation.is_some();
    let generation = command.generation.clone().unwrap_or_else(Generation::random);
    let secret = declare_key(&generation, clock.now());
    let declared = command.declared(&generation, secret.id().to_string(), secret.hash().to_hex());
    // What the next start would refuse is refused now.
    Declared::check(std::slice::from_ref(&declared)).map_err(|error| Failure::Usage(error.rule))?;
    let document = Document {
        account: command.account,
        generation,
        id: secret.id().to_string(),
        key: secret.shown(),
        hash: secret.hash().to_hex(),
        toml: toml(&declared, known),
    };
    command.output.print(&document, |document| {
        // Apart from the lines, which often go straight into the file.
        say(&format!("keep this access key, it is shown once:\n{}", document.key.reveal()));
        document.toml.clone()
    })?;
    Ok(())
}

impl Declare {
    fn declared(&self, generation: &Generation, id: String, hash: String) -> DeclaredAccount {
        let origin = Origin::File { path: PathBuf::new(), line: 0 };
        let key = DeclaredKey {
            origin: origin.clone(),
            id,
            hash,
            role: (self.role != Role::Owner).then(|| self.role.as_str().to_owned()),
            delete: self.delete,
            repositories: self.repository.clone(),
            label: (!self.label.is_empty()).then(|| self.label.clone()),
            max_ttl: None,
            expires: self.expires.map(shown),
            ip_allow: Vec::new(),
        };
        DeclaredAccount {
            origin,
            name: self.account.to_string(),
            generation: generation.to_string(),
            display: None,
            state: None,
            public: None,
            on_stale: None,
            hosts: None,
            ip_allow: None,
            max_ttl_pull: None,
            max_ttl_push: None,
            keys: vec![key],
        }
    }
}

/// The lines for the file; of an account that the file has already, only its key's.
fn toml(account: &DeclaredAccount, known: bool) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let mut lines = if known {
        vec![format!("# below the [[accounts]] of {}", account.name)]
    } else {
        vec![
            "[[accounts]]".to_owned(),
            format!("name = {}", text(&account.name)),
            format!("gen = {}", text(&account.generation)),
            String::new(),
        ]
    };
    for key in &account.keys {
        lines.push("[[accounts.keys]]".to_owned());
        let mut line = |name: &str, value: String| lines.push(format!("{name} = {value}"));
        line("id", text(&key.id));
        line("hash", text(&key.hash));
        if let Some(role) = &key.role {
            line("role", text(role));
        }
        if key.delete {
            line("delete", "true".to_owned());
        }
        if !key.repositories.is_empty() {
            line("repositories", toml::Value::from(key.repositories.clone()).to_string());
        }
        if let Some(label) = &key.label {
            line("label", text(label));
        }
        if let Some(expires) = &key.expires {
            line("expires", expires.clone());
        }
    }
    lines.join("\n") + "\n"
}
