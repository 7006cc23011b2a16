//! Standard output, where a reader may go away, and standard error for what people read.

use super::error::Error;
use std::io::{self, Write as _};

/// A line to standard output, seen at once by who reads it.
pub(super) fn out(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// A line to standard error. Where even that fails nobody is left to be told.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A question to standard error, with the cursor left behind it.
pub(super) fn ask(text: &str) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{text}").and_then(|()| err.flush());
}
