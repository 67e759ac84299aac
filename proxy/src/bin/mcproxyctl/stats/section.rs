//! A titled table that fits its screen, and says what it leaves out.

use mcdsl::cli::{render, render_unwrapped};

use super::Fit;

/// A row and how busy it is.
pub(super) type Ranked = (f64, Vec<String>);

/// A titled table.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) header: &'static [&'static str],
    /// Columns that a narrow terminal does without, the first first.
    pub(super) spare: &'static [&'static str],
    pub(super) rows: Vec<Ranked>,
}

/// Lines of a section besides its rows: title, header, how many are hidden, an empty one.
const FRAME: usize = 4;

impl Section {
    /// The busiest rows if not all fit.
    pub(super) fn text(mut self, limit: usize, fit: Fit) -> String {
        let hidden = self.rows.len().saturating_sub(limit);
        if hidden > 0 {
            self.rows.sort_by(|a, b| b.0.total_cmp(&a.0));
            self.rows.truncate(limit);
        }
        let mut header = self.header.to_vec();
        let mut rows: Vec<_> = self.rows.into_iter().map(|(_, row)| row).collect();
        let without = match fit {
            Fit::Screen { columns, .. } => narrow(&mut header, &mut rows, self.spare, columns),
            _ => Vec::new(),
        };
        let title = match without.as_slice() {
            [] => self.title.to_owned(),
            names => format!("{} (too narrow for {})", self.title, names.join(", ")),
        };
        let more = match hidden {
            0 => String::new(),
            n => format!("… and {n} more\n"),
        };
        let render = match fit {
            Fit::Screen { .. } => render_unwrapped,
            _ => render,
        };
        format!("{title}\n{}\n{more}\n", render(&header, rows))
    }
}

/// Spaces between two columns.
const GAP: usize = 2;
/// A first column is not made narrower: it says what the row is of.
const FIRST_COLUMN: usize = 12;

/// Takes spare columns out until the table fits, then shortens its first column; says which it took.
fn narrow<'a>(
    header: &mut Vec<&'a str>,
    rows: &mut [Vec<String>],
    spare: &[&'a str],
    columns: usize,
) -> Vec<&'a str> {
    let width = |header: &[&str], rows: &[Vec<String>], i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.max().unwrap_or(0).max(header[i].chars().count())
    };
    let whole = |header: &[&str], rows: &[Vec<String>]| {
        let each = (0..header.len()).map(|i| width(header, rows, i) + GAP);
        each.sum::<usize>() - GAP
    };
    let mut without = Vec::new();
    for name in spare {
        if whole(header, rows) <= columns {
            break;
        }
        if let Some(at) = header.iter().position(|h| h == name) {
            header.remove(at);
            rows.iter_mut().for_each(|row| drop(row.remove(at)));
            without.push(*name);
        }
    }
    let over = whole(header, rows).saturating_sub(columns);
    let most = width(header, rows, 0)
        .saturating_sub(over)
        .max(FIRST_COLUMN);
    for row in rows {
        row[0] = shorten(&row[0], most);
    }
    without
}

/// What is cut off is told by the last character.
fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = text.chars().take(most.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// How many rows of each section fit `lines`: dealt out one by one, so that a long table leaves room for the short ones.
pub(super) fn deal(sections: &[Section], lines: usize) -> Vec<usize> {
    let mut left = lines.saturating_sub(sections.len() * FRAME);
    let mut limits = vec![0; sections.len()];
    loop {
        let before = left;
        for (limit, section) in limits.iter_mut().zip(sections) {
            if left > 0 && *limit < section.rows.len() {
                *limit += 1;
                left -= 1;
            }
        }
        if left == before {
            return limits;
        }
    }
}

pub(super) fn cut(text: &str, columns: usize, lines: usize) -> String {
    let lines = text.lines().take(lines);
    let cut = lines.map(|line| shorten(line, columns) + "\n");
    cut.collect()
}
