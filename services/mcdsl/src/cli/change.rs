//! What is put in the place of something: how it differs, and the command that makes it.

use super::quoted;

/// What is otherwise in the one that replaces another, old and new, by the lines that show both; `None`: nothing.
#[must_use]
pub fn change(before: &[(&str, String)], after: &[(&str, String)]) -> Option<String> {
    let both = before.iter().zip(after);
    let differ = both.filter(|((_, old), (_, new))| old != new);
    let told: Vec<_> = differ
        .map(|((what, old), (_, new))| format!("{what} {old} -> {new}"))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// A command line that makes something as it is, for a shell.
#[derive(Clone, Debug)]
pub struct CommandLine(String);

impl CommandLine {
    /// Of its first words.
    #[must_use]
    pub fn new(words: &[&str]) -> Self {
        let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        Self(words.join(" "))
    }

    /// `--name`, if it is said.
    #[must_use]
    pub fn flag(mut self, name: &str, said: bool) -> Self {
        if said {
            self.0.push_str(&format!(" --{name}"));
        }
        self
    }

    /// `--name=text`, unless that is empty.
    #[must_use]
    pub fn option(self, name: &str, text: &str) -> Self {
        match text {
            "" => self,
            text => self.options(name, [text]),
        }
    }

    /// `--name=text` for each.
    #[must_use]
    pub fn options<S: AsRef<str>>(
        mut self,
        name: &str,
        texts: impl IntoIterator<Item = S>,
    ) -> Self {
        for text in texts {
            let word = quoted(&format!("--{name}={}", text.as_ref()));
            self.0.push_str(&format!(" {word}"));
        }
        self
    }

    /// All of it.
    #[must_use]
    pub fn line(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_one_for_a_shell() {
        let line = CommandLine::new(&["tool", "put", "a b"])
            .flag("yes", true)
            .flag("no", false)
            .option("none", "")
            .option("comment", "it's")
            .options("role", ["x", "y"]);
        let unseen = CommandLine::new(&["x"]).option("c", "a'\u{202e}\\b").line();
        assert_eq!(unseen, r"x $'--c=a\'\342\200\256\\b'");
        let want = r"tool put 'a b' --yes '--comment=it'\''s' --role=x --role=y";
        assert_eq!(line.line(), want);
    }

    #[test]
    fn what_changes_is_told_and_nothing_else() {
        let of = |a: &str, b: &str| [("a", a.to_owned()), ("b", b.to_owned())];
        assert_eq!(change(&of("1", "2"), &of("1", "2")), None);
        let told = change(&of("1", "2"), &of("1", "3"));
        assert_eq!(told.as_deref(), Some("b 2 -> 3"));
    }
}
