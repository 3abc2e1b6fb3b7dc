//! Progress on a terminal; nothing when standard error is none.

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) fn bar(what: &str, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:32} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
