//! `completion`: what shells complete commands with; and what kubectl asks a plugin for.

use std::io::{self, Write};

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;

use crate::args;
use crate::{Error, Outcome};

/// Print the completion of a shell
///
/// kubectl completes its plugins by programs of their own: a link named kubectl_complete-ringfence to this one, beside kubectl-ringfence, does it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  source <(ringfence completion bash)
  ringfence completion zsh > \"${fpath[1]}/_ringfence\"
  ringfence completion fish > ~/.config/fish/completions/ringfence.fish
  ln -s \"$(command -v ringfence)\" /usr/local/bin/kubectl_complete-ringfence   # kubectl ringfence <TAB>")]
pub struct Args {
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome, Error> {
    // In memory first: the generator panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::Args::command(), "ringfence", &mut script);
    out.write_all(&script)?;
    Ok(Outcome::Fine)
}

/// Let the shell complete names of files.
const FILES: &str = ":0";
/// Complete nothing but what was listed.
const ONLY_THESE: &str = ":4";

/// Answers kubectl, which hands over the words after `kubectl ringfence`, the last of which is not finished, and wants a line for each that
/// could stand there and a directive behind them.
///
/// # Errors
/// If the output cannot be written.
pub fn answer(words: &[String], out: &mut dyn Write) -> io::Result<()> {
    let mut root = args::Args::command();
    root.build();
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", before_nothing()),
    };
    let command = before.iter().fold(&root, |command, word| {
        command.find_subcommand(word.as_str()).unwrap_or(command)
    });
    // The value of an option: `-o <TAB>`, `--output=<TAB>`.
    let (prefix, option, begun) = match (last.split_once('='), before.last()) {
        (Some((option, begun)), _) if option.starts_with("--") => {
            (format!("{option}="), named(command, option), begun)
        }
        (_, Some(word)) => (String::new(), named(command, word), last),
        _ => (String::new(), None, last),
    };
    if let Some(option) = option.filter(|option| option.get_action().takes_values()) {
        let values = option.get_possible_values();
        for value in values.iter().filter(|value| value.get_name().starts_with(begun)) {
            writeln!(out, "{prefix}{}", value.get_name())?;
        }
        let file = option
            .get_value_names()
            .is_some_and(|names| names.iter().any(|name| name == "FILE"));
        return writeln!(out, "{}", if file { FILES } else { ONLY_THESE });
    }
    if last.starts_with('-') {
        for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
            if let Some(long) = option
                .get_long()
                .filter(|long| format!("--{long}").starts_with(last))
            {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                writeln!(out, "--{long}\t{}", help.lines().next().unwrap_or_default())?;
            }
        }
        return writeln!(out, "{ONLY_THESE}");
    }
    let mut subcommands = command
        .get_subcommands()
        .filter(|sub| sub.get_name().starts_with(last))
        .peekable();
    if command.has_subcommands() {
        for sub in subcommands.by_ref() {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            writeln!(
                out,
                "{}\t{}",
                sub.get_name(),
                about.lines().next().unwrap_or_default()
            )?;
        }
        return writeln!(out, "{ONLY_THESE}");
    }
    let positional = command.get_positionals().next();
    let values = positional.map(Arg::get_possible_values).unwrap_or_default();
    for value in values.iter().filter(|value| value.get_name().starts_with(last)) {
        writeln!(out, "{}", value.get_name())?;
    }
    writeln!(out, "{}", if values.is_empty() { FILES } else { ONLY_THESE })
}

fn before_nothing() -> &'static [String] {
    &[]
}

/// The option that a word names, as `-o` or `--output`.
fn named<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let long = word.strip_prefix("--").filter(|long| !long.is_empty());
    let short = word.strip_prefix('-').filter(|short| short.chars().count() == 1);
    command.get_arguments().find(|option| {
        (long.is_some() && option.get_long() == long)
            || short.is_some_and(|short| option.get_short() == short.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut out = Vec::new();
        answer(&words, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let first = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        text.lines().map(first).collect()
    }

    #[test]
    fn kubectl_is_told_what_could_come_next() {
        assert_eq!(answered(&["con"]), ["connlist", ":4"]);
        assert!(answered(&[""]).contains(&"check".to_owned()));
        assert_eq!(answered(&["connlist", "-o", "s"]), ["svg", ":4"]);
        assert_eq!(answered(&["connlist", "--output=j"]), ["--output=json", ":4"]);
        assert_eq!(answered(&["connlist", "--exp"]), ["--exposure", ":4"]);
        assert_eq!(answered(&["connlist", "man"]), [":0"]);
        assert_eq!(answered(&["generate", "--facts", ""]), [":0"]);
        assert_eq!(answered(&["completion", "ba"]), ["bash", ":4"]);
        assert_eq!(answered(&[]).last().unwrap(), ":4");
    }

    #[test]
    fn every_shell_gets_its_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut out = Vec::new();
            run(&Args { shell }, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            assert!(
                script.contains("connlist") && script.contains("exposure"),
                "{shell}"
            );
        }
    }
}
