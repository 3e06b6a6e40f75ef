//! The settings as flags, made from the one table of `config`.

use std::{path::PathBuf, sync::LazyLock};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use config::{Config, Kind, SETTINGS, Setting, Sources};

/// Keys that matter to a command on the store; `serve` and `config` take all.
const OF_THE_STORE: [&str; 9] = [
    "data",
    "store",
    "records",
    "public_url",
    "trusted_issuer",
    "seal_key",
    "seal_key_command",
    "log.filter",
    "log.format",
];

/// `--config` and the settings that were given as flags: all of them, or those of the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings<const ALL: bool> {
    file: Option<PathBuf>,
    values: Vec<(&'static Setting, Vec<String>)>,
    files: Vec<(&'static Setting, String)>,
}

/// The names of a setting's flags, which clap wants for as long as the program lives.
#[derive(Debug)]
struct Flag {
    setting: &'static Setting,
    long: String,
    /// The name of the flag that names a secret's file, as clap and as people know it.
    file: (String, String),
}

static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let flag = |setting: &'static Setting| {
        let long = setting.flag();
        Flag { setting, file: (format!("{}_file", setting.key), format!("{long}-file")), long }
    };
    SETTINGS.iter().map(flag).collect()
});

impl<const ALL: bool> Settings<ALL> {
    fn taken() -> impl Iterator<Item = &'static Flag> {
        FLAGS.iter().filter(|flag| ALL || OF_THE_STORE.contains(&flag.setting.key))
    }

    /// Defaults, file, environment and these flags, checked.
    pub(crate) fn load(&self) -> Result<Config, config::Error> {
        let mut sources = Sources::process();
        if let Some(file) = &self.file {
            sources = sources.file(file);
        }
        for (setting, values) in &self.values {
            sources = sources.flag(setting, values.clone());
        }
        for (setting, path) in &self.files {
            sources = sources.flag_file(setting, path.clone());
        }
        config::load(&sources)
    }

    /// Whether a flag was given for this setting.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.iter().any(|(setting, _)| setting.key == key)
    }
}

impl<const ALL: bool> Args for Settings<ALL> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Read settings from this file (TOML) [env: HYTHE_CONFIG]");
        let command = command.next_help_heading("Settings").arg(file);
        Self::taken().fold(command, |command, names| {
            let setting = names.setting;
            let flag = Arg::new(setting.key).long(names.long.as_str()).value_name(setting.placeholder);
            let help = format!("{} [env: {}]", setting.help, setting.variable());
            let flag = match setting.kind {
                Kind::Value | Kind::Secret => flag.action(ArgAction::Set).help(help),
                Kind::List => flag.action(ArgAction::Append).help(help + " (repeatable)"),
                Kind::Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true").help(help),
            };
            if setting.kind != Kind::Secret {
                return command.arg(flag);
            }
            let by_file = Arg::new(names.file.0.as_str()).long(names.file.1.as_str()).value_name("FILE").help(format!(
                "{}, read from this file [env: {}_FILE]",
                setting.help,
                setting.variable()
            ));
            command.arg(flag).arg(by_file)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const ALL: bool> FromArgMatches for Settings<ALL> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self { file: matches.get_one::<PathBuf>("config").cloned(), ..Self::default() };
        for names in Self::taken() {
            let setting = names.setting;
            if let Some(values) = matches.get_many::<String>(setting.key) {
                settings.values.push((setting, values.cloned().collect()));
            }
            if setting.kind == Kind::Secret
                && let Some(path) = matches.get_one::<String>(&names.file.0)
            {
                settings.files.push((setting, path.clone()));
            }
        }
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
