//! The admin socket: HTTP over a Unix socket that only the broker's own user may open.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Why the admin socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another broker answers there.
    #[error("a broker already answers at the admin socket {}: stop it, or give this one another [admin] socket", .0.display())]
    InUse(PathBuf),
    /// The path holds something else.
    #[error("{} exists and is not a socket: remove it, or give another [admin] socket", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error("the admin socket {} cannot be made: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// A bound admin socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    /// Where it is.
    pub path: PathBuf,
    listener: Option<UnixListener>,
}

impl AdminSocket {
    /// Binds the socket with mode 0600. It is made in a folder that nobody else can enter and then moved into place,
    /// so that there is no moment in which another user could open it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(SocketError::InUse(path.to_owned()));
            }
            _ => {}
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(io)?;
        let private = parent.join(format!(".signet-{}", std::process::id()));
        // One that a crash, or somebody else, left there is not used. In a container every process has the same number.
        drop(std::fs::remove_dir_all(&private));
        std::fs::DirBuilder::new().mode(0o700).create(&private).map_err(io)?;
        let made = Self::bind_inside(&private, path);
        let cleaned = std::fs::remove_dir_all(&private);
        let listener = made.map_err(io)?;
        cleaned.map_err(io)?;
        Ok(Self { path: path.to_owned(), listener: Some(listener) })
    }

    fn bind_inside(private: &Path, path: &Path) -> std::io::Result<UnixListener> {
        let inside = private.join("s");
        let listener = UnixListener::bind(&inside)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&inside, path)?;
        Ok(listener)
    }

    /// The listener, once; for a runtime to adopt.
    pub fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the admin socket was already gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    fn private_folder(parent: &Path) -> PathBuf {
        parent.join(format!(".signet-{}", std::process::id()))
    }

    #[test]
    fn the_socket_is_the_owners_alone_and_goes_with_the_broker() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/signet.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        assert!(!private_folder(path.parent().unwrap()).exists(), "the folder that it was made in is gone");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_a_broker_answers_at_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signet.sock");
        let _running = AdminSocket::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::InUse(_))));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_socket_that_nobody_answers_at_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signet.sock");
        drop(UnixListener::bind(&path).unwrap());
        let _socket = AdminSocket::bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_neither_removed_nor_followed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes.txt");
        std::fs::write(&file, "mine").unwrap();
        let link = dir.path().join("signet.sock");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert!(matches!(AdminSocket::bind(path), Err(SocketError::NotASocket(_))));
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_folder_that_somebody_prepared_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let private = private_folder(dir.path());
        // Left by a crash, or put there by somebody: open to all, and with something in it.
        std::fs::DirBuilder::new().mode(0o777).create(&private).unwrap();
        std::fs::write(private.join("s"), "in the way").unwrap();
        let path = dir.path().join("signet.sock");
        drop(AdminSocket::bind(&path).unwrap());
        assert!(!private.exists());
        // A link to another folder: the link goes, and the folder stays as it was.
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &private).unwrap();
        let _socket = AdminSocket::bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1);
    }
}
