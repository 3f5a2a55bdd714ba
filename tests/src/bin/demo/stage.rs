//! How the story looks on the terminal: numbered steps with their times, commands as a user would type them.

use std::time::{Duration, Instant};

use anstream::println;
use anstyle::{AnsiColor, Style};
use ringfence_tests::target::{Said, Target};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

pub struct Stage {
    start: Instant,
    step: Option<(String, Instant)>,
    times: Vec<(String, Duration)>,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            step: None,
            times: Vec::new(),
        }
    }

    /// Ends the step before, and begins one.
    pub fn step(&mut self, title: &str) {
        self.finish_step();
        println!("\n{BOLD}{}. {title}{BOLD:#}", self.times.len() + 1);
        self.step = Some((title.to_owned(), Instant::now()));
    }

    fn finish_step(&mut self) {
        if let Some((title, start)) = self.step.take() {
            let time = start.elapsed();
            println!("  {DIM}{:.1} s{DIM:#}", time.as_secs_f64());
            self.times.push((title, time));
        }
    }

    pub fn say(&self, text: &str) {
        println!("  {text}");
    }

    /// Prints a command as a user would type it.
    pub fn command(&self, command: &str) {
        println!("  {BOLD}$ {command}{BOLD:#}");
    }

    pub fn good(&self, text: &str) {
        let style = AnsiColor::Green.on_default();
        println!("  {style}✓{style:#} {text}");
    }

    pub fn table(&self, table: &str) {
        println!("{table}");
    }

    /// Runs kubectl and shows both the command and what it said.
    pub async fn kubectl(&self, target: &Target, arguments: &[&str], input: &str) -> anyhow::Result<Said> {
        let heredoc = if input.is_empty() {
            ""
        } else {
            "   # (what stands above)"
        };
        self.command(&format!("kubectl {}{heredoc}", arguments.join(" ")));
        let said = target.try_kubectl(arguments, input).await?;
        for line in said.stdout.lines().chain(said.stderr.lines()) {
            println!("  {DIM}{line}{DIM:#}");
        }
        Ok(said)
    }

    pub fn yaml(&self, yaml: &str) {
        for line in yaml.trim().lines() {
            println!("    {line}");
        }
    }

    /// The end: the time of each step.
    pub fn done(&mut self) {
        self.finish_step();
        println!("\n{BOLD}All as it must be.{BOLD:#} Times:");
        for (index, (title, time)) in self.times.iter().enumerate() {
            println!("  {:>2}. {title:72} {:>6.1} s", index + 1, time.as_secs_f64());
        }
        println!(
            "      {:60} {:>6.1} s",
            "in all",
            self.start.elapsed().as_secs_f64()
        );
    }

    pub fn failed(&self, error: &anyhow::Error) {
        let style = AnsiColor::Red.on_default().bold();
        let step = self
            .step
            .as_ref()
            .map_or("at the start", |(title, _)| title.as_str());
        anstream::eprintln!("\n{style}FAILED{style:#} in step \"{step}\": {error:#}");
    }
}
