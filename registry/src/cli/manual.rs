//! `hythe completion` and `hythe man`, both from the one definition of the command line.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{
    Cli, Failure,
    credential_helper::{self, Helper},
    credential_provider::{self, Provider},
    output,
};

#[derive(Debug, Args)]
pub(super) struct Completion {
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for every command into this folder (default: print that of hythe itself)
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completion(command: &Completion) -> Result<(), Failure> {
    output::print(&script(command.shell))?;
    Ok(())
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hythe", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

pub(super) fn man(command: &Man) -> Result<(), Failure> {
    let mut cli = Cli::command();
    cli.build();
    match &command.folder {
        None => output::print(&page(cli)?)?,
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            pages(&cli, "hythe", folder)?;
            for (mut program, name) in
                [(Helper::command(), credential_helper::NAME), (Provider::command(), credential_provider::NAME)]
            {
                program.build();
                pages(&program, name, folder)?;
            }
        }
    }
    Ok(())
}

fn page(command: clap::Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A page for a command and for each below it: `hythe-key-create.1`.
#[expect(clippy::disallowed_methods, reason = "the pages are files that were asked for")]
fn pages(command: &clap::Command, name: &str, folder: &Path) -> Result<(), Failure> {
    std::fs::write(folder.join(format!("{name}.1")), page(command.clone())?)?;
    for below in command.get_subcommands() {
        pages(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = script(shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_page_and_every_setting_stands_in_that_of_serve() {
        fn count(command: &clap::Command) -> usize {
            1 + command.get_subcommands().map(count).sum::<usize>()
        }
        let folder = tempfile::tempdir().unwrap();
        man(&Man { folder: Some(folder.path().to_owned()) }).unwrap();
        let programs = [Cli::command(), Helper::command(), Provider::command()];
        let pages = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(pages, programs.iter().map(count).sum::<usize>());
        #[expect(clippy::disallowed_methods, reason = "the pages are files that were asked for")]
        let serve = std::fs::read_to_string(folder.path().join("hythe-serve.1")).unwrap();
        for setting in ::config::SETTINGS {
            assert!(serve.contains(&setting.variable()), "{} is not in hythe-serve.1", setting.variable());
        }
    }
}
