//! The user PIN: read when it is needed, tried once.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Pkcs11Error;
use crate::ca::{read_secret, replace};

/// In the authority's folder: which edition of the PIN file the token has refused.
const REFUSED_FILE: &str = "pkcs11-pin-refused";

/// A PIN in a file. One that was refused is not tried again, also by another process, until the file has changed: a
/// service that is started again and again must not lock its token.
#[derive(Debug)]
pub(super) struct Pin {
    file: PathBuf,
    marker: PathBuf,
    /// For a folder that cannot be written to.
    refused: Option<String>,
    /// What the token was given last: meanwhile the file may be another.
    given: Option<String>,
}

impl Pin {
    pub(super) fn new(file: PathBuf, state: &Path) -> Self {
        Self { file, marker: state.join(REFUSED_FILE), refused: None, given: None }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The first line of the file, unless the token has refused what is in it.
    pub(super) fn read(&mut self, token: &str) -> Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
        let edition = self.edition()?;
        let marked = std::fs::read_to_string(&self.marker).ok();
        if self.refused.as_deref() == Some(&edition) || marked.as_deref().map(str::trim) == Some(&edition) {
            return Err(Pkcs11Error::PinRefusedBefore { token: token.to_owned(), file: self.file.clone() });
        }
        let text = read_secret(&self.file).map_err(|error| Pkcs11Error::PinFile(error.to_string()))?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(Pkcs11Error::PinFile(format!("{}: its first line is empty", self.file.display())));
        }
        self.given = Some(edition);
        Ok(Zeroizing::new(line.to_vec()))
    }

    /// The token has refused what was read last.
    pub(super) fn was_refused(&mut self) {
        let Some(edition) = self.given.take() else { return };
        if let Err(error) = replace(&self.marker, edition.as_bytes(), 0o600) {
            tracing::warn!(file = %self.marker.display(), %error, "it cannot be noted that the token refused the PIN");
        }
        self.refused = Some(edition);
    }

    /// The token has accepted it.
    pub(super) fn was_accepted(&mut self) {
        self.refused = None;
        if let Err(error) = std::fs::remove_file(&self.marker)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.marker.display(), %error, "a note that is no longer true cannot be removed");
        }
    }

    /// What tells one edition of the file from the next. Nothing of the PIN: a hash of few digits gives them away.
    fn edition(&self) -> Result<String, Pkcs11Error> {
        let fail = |error: std::io::Error| Pkcs11Error::PinFile(format!("{}: {error}", self.file.display()));
        let metadata = std::fs::metadata(&self.file).map_err(fail)?;
        Ok(format!("{} {}.{:09}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn setup() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pin");
        write(&file, "1234\nnot this\n");
        (dir, file)
    }

    fn write(file: &Path, text: &str) {
        // As an editor does: a new file in the place of the old one.
        replace(file, text.as_bytes(), 0o600).unwrap();
    }

    #[test]
    fn the_first_line_is_the_pin() {
        let (dir, file) = setup();
        let mut pin = Pin::new(file, dir.path());
        assert_eq!(pin.read("t").unwrap().as_slice(), b"1234");
    }

    #[test]
    fn a_refused_pin_is_not_given_again_until_the_file_is_another() {
        let (dir, file) = setup();
        let mut pin = Pin::new(file.clone(), dir.path());
        drop(pin.read("t").unwrap());
        pin.was_refused();
        // Neither in this process nor in the next.
        for pin in [&mut pin, &mut Pin::new(file.clone(), dir.path())] {
            assert!(matches!(pin.read("t"), Err(Pkcs11Error::PinRefusedBefore { .. })));
        }
        write(&file, "5678\n");
        assert_eq!(pin.read("t").unwrap().as_slice(), b"5678");
        pin.was_accepted();
        assert!(!dir.path().join(REFUSED_FILE).exists());
    }

    #[test]
    fn a_pin_that_is_written_while_the_token_refuses_the_old_one_is_tried() {
        let (dir, file) = setup();
        let mut pin = Pin::new(file.clone(), dir.path());
        assert_eq!(pin.read("t").unwrap().as_slice(), b"1234");
        write(&file, "5678\n");
        pin.was_refused();
        assert_eq!(pin.read("t").unwrap().as_slice(), b"5678");
    }

    #[test]
    fn a_refusal_is_remembered_where_nothing_can_be_written() {
        let (dir, file) = setup();
        let mut pin = Pin::new(file, &dir.path().join("missing"));
        drop(pin.read("t").unwrap());
        pin.was_refused();
        assert!(matches!(pin.read("t"), Err(Pkcs11Error::PinRefusedBefore { .. })));
    }

    #[test]
    fn a_file_that_others_can_read_and_an_empty_one_are_refused() {
        let (dir, file) = setup();
        for mode in [0o644, 0o640, 0o750, 0o601] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = Pin::new(file.clone(), dir.path()).read("t").unwrap_err().to_string();
            assert!(said.contains("chmod 600"), "{mode:o}: {said}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(Pin::new(file.clone(), dir.path()).read("t").is_ok());
        write(&file, "\n1234\n");
        let said = Pin::new(file, dir.path()).read("t").unwrap_err().to_string();
        assert!(said.contains("empty"), "{said}");
    }
}
