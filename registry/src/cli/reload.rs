//! Taking over a changed configuration while serving: on SIGHUP, and when a look at it finds that it is another.

use std::time::Duration;

use config::Config;

use super::{Failure, serve::configuration, settings::Settings};
use crate::{Running, telemetry::chain};

/// How often the configuration is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// The configuration that is in force, and what was last wrong with a newer one.
#[derive(Debug)]
pub(super) struct Reloads<'a> {
    settings: &'a Settings<true>,
    taken: Config,
    wrong: Option<String>,
}

impl<'a> Reloads<'a> {
    pub(super) fn new(settings: &'a Settings<true>, taken: Config) -> Self {
        Self { settings, taken, wrong: None }
    }

    /// Reads the configuration again and takes it over if it is another, or if that was `asked` for. One that cannot be used
    /// changes nothing and is told once.
    pub(super) async fn look(&mut self, running: &Running, asked: bool) {
        let found = match configuration(self.settings) {
            Ok(config) if !asked && self.wrong.is_none() && config.same(&self.taken) => return,
            Ok(config) => {
                Box::pin(running.reload(&config)).await.map(|restart| (config, restart)).map_err(|error| chain(&error))
            }
            Err(Failure::Usage(line) | Failure::Failed(line)) => Err(line),
        };
        match found {
            Ok((config, restart)) => {
                tracing::info!("the configuration was read again");
                if !restart.is_empty() {
                    tracing::warn!(
                        "these settings are others now and take effect with a restart: {}",
                        restart.join(", ")
                    );
                }
                (self.taken, self.wrong) = (config, None);
            }
            Err(line) => {
                if asked || self.wrong.as_deref() != Some(&line) {
                    tracing::error!("the configuration stays as it was: {line}");
                }
                self.wrong = Some(line);
            }
        }
    }
}
