//! `ame completions SHELL`.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame completions bash > ~/.local/share/bash-completion/completions/ame
  ame completions zsh > ~/.zfunc/_ame         with ~/.zfunc in fpath
  ame completions fish > ~/.config/fish/completions/ame.fish")]
pub struct Args {
    /// The shell to write for
    shell: Shell,
}

/// `C` is the whole command line.
pub fn run<C: CommandFactory>(args: &Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "ame", &mut script);
    crate::output::print(&String::from_utf8_lossy(&script))
}
