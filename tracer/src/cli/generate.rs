//! `rstscope generate`: the manual pages and the completions of the shells, for packages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::exit::Exit;

/// The shells that get completions.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Flags of `rstscope generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// Folder that the files are written to; `man` and `completions` are made in it
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Runs `rstscope generate`.
pub fn run(args: &GenerateArgs) -> anyhow::Result<Exit> {
    manual(&args.folder.join("man"))?;
    completions(&args.folder.join("completions"))?;
    Ok(Exit::Success)
}

fn manual(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let command = Cli::command().disable_help_subcommand(true).version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("cannot write the manual pages to {}", folder.display()))
}

fn completions(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for shell in SHELLS {
        let path = folder.join(shell.to_string());
        let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        clap_complete::generate(shell, &mut Cli::command(), "rstscope", &mut file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_every_shell_its_completions() {
        let folder = tempfile::tempdir().unwrap();
        run(&GenerateArgs { folder: folder.path().to_owned() }).unwrap();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.path().join(format!("man/rstscope-{}.1", command.get_name()));
            assert!(fs::metadata(&page).is_ok_and(|page| page.len() > 100), "{}", page.display());
        }
        for shell in ["bash", "zsh", "fish"] {
            let text = fs::read_to_string(folder.path().join("completions").join(shell)).unwrap();
            assert!(text.contains("query"), "{shell}");
        }
    }
}
