//! Shows a step: the command as a person would type it, what came of it, and whether that is what was said.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context, Result};

/// What a request is expected to come to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect<'a> {
    /// Success, and this in the output.
    Says(&'a str),
    /// curl got no answer in time: packets were dropped.
    Dropped,
    /// curl was refused at the first packet: an RST to its SYN.
    Refused,
    /// curl was connected and then reset, before TLS.
    Reset,
}

/// Prints steps and remembers which were not as said.
pub(super) struct Show {
    directory: PathBuf,
    step: String,
    wrong: Vec<String>,
}

impl Show {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            step: String::new(),
            wrong: Vec::new(),
        }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        println!("\n== {title}");
        title.clone_into(&mut self.step);
    }

    /// An administrator's command, which has to succeed.
    pub(super) fn ctl(&mut self, line: &str) -> Result<()> {
        self.run("ctl", line, Expect::Says(""))
    }

    /// Runs one of the demo's commands with the words of `line`.
    pub(super) fn run(&mut self, program: &str, line: &str, expect: Expect<'_>) -> Result<()> {
        let path = self.directory.join(program);
        let output = Command::new(&path)
            .args(line.split_whitespace())
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let command = format!("{} {line}", self.shown(program));
        println!("$ {command}");
        self.judge(&command, &output, expect);
        Ok(())
    }

    /// A request of a client for a name's page.
    pub(super) fn request(&mut self, client: &str, name: &str, expect: Expect<'_>) -> Result<()> {
        self.run(client, &format!("https://{name}/"), expect)
    }

    /// Notes the outcome of something that is no command.
    pub(super) fn expect(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            println!("NOT SO: {otherwise}");
            self.wrong.push(format!("{}: {otherwise}", self.step));
        }
    }

    /// What was not as said, by step.
    pub(super) fn wrong(self) -> Vec<String> {
        self.wrong
    }

    /// A demo command as it can be typed from the workspace's directory.
    pub(super) fn shown(&self, program: &str) -> String {
        let path = self.directory.join(program);
        path.strip_prefix(crate::workspace())
            .unwrap_or(&path)
            .display()
            .to_string()
    }

    fn judge(&mut self, command: &str, output: &Output, expect: Expect<'_>) {
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        for line in text.lines().chain(errors.lines()) {
            println!("  {line}");
        }
        let code = output.status.code();
        let (holds, meaning) = match expect {
            Expect::Says(wanted) => {
                let said = text.contains(wanted);
                let meaning = match wanted {
                    "" => "it succeeds".to_owned(),
                    wanted => format!("it says {wanted:?}"),
                };
                (output.status.success() && said, meaning)
            }
            // curl(1), EXIT CODES.
            Expect::Dropped => (code == Some(28), "no answer: dropped".to_owned()),
            Expect::Refused => (code == Some(7), "refused at the SYN".to_owned()),
            Expect::Reset => (code == Some(35), "reset before TLS".to_owned()),
        };
        if !matches!(expect, Expect::Says(_)) && holds {
            println!("  -> {meaning}");
        }
        let got = format!("{} {}", output.status, errors.trim());
        let told = format!("`{command}`: expected: {meaning}; got: {}", got.trim());
        self.expect(holds, &told);
    }
}
