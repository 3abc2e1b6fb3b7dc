//! The table of roles and the files made from it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use time::{Duration, OffsetDateTime};

use crate::profile::{CrlProfile, KeyKind, LeafProfile, Purpose, Validity};
use crate::{Authority, Crl, Error, Leaf};

/// Which authority signs a role's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuedBy {
    /// The issuing authority of the development PKI.
    Issuing,
    /// A root that nobody here trusts.
    Foreign,
}

/// When a role's certificate is valid, relative to the moment it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Now and for [`LEAF_DAYS`].
    Current,
    /// It ended yesterday.
    Past,
    /// It begins in ten years.
    Future,
}

/// The certificate that a role holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Server,
    Device(&'static [Purpose]),
    Atecc608,
}

/// One row of the table: a certificate of the development PKI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// The name of its files.
    pub name: &'static str,
    /// The common name in the certificate.
    pub common_name: &'static str,
    /// Who signs it.
    pub issued_by: IssuedBy,
    /// When it is valid.
    pub window: Window,
    /// Whether the CRL lists it.
    pub revoked: bool,
    /// What it is for, or why a broker refuses it; one line for people.
    pub about: &'static str,
    shape: Shape,
}

const CLIENT: Shape = Shape::Device(&[Purpose::ClientAuth]);

const fn good(name: &'static str, shape: Shape, about: &'static str) -> Role {
    let (issued_by, window, revoked) = (IssuedBy::Issuing, Window::Current, false);
    Role { name, common_name: name, issued_by, window, revoked, about, shape }
}

/// Every certificate of the development PKI besides the authorities.
pub const ROLES: &[Role] = &[
    Role { common_name: "localhost", ..good("server", Shape::Server, "the broker: localhost, 127.0.0.1") },
    good("sensor-001", CLIENT, "a device"),
    good("sensor-002", CLIENT, "another device"),
    good("admin", CLIENT, "the operator"),
    Role {
        window: Window::Past,
        ..good("expired", CLIENT, "refused: it expired the day before it was made")
    },
    Role {
        window: Window::Future,
        ..good("not-yet-valid", CLIENT, "refused: its validity begins in ten years")
    },
    Role {
        issued_by: IssuedBy::Foreign,
        ..good("foreign-ca", CLIENT, "refused: an unknown authority signed it")
    },
    Role { revoked: true, ..good("revoked", CLIENT, "refused: issuing.crl lists it") },
    good(
        "wrong-eku",
        Shape::Device(&[Purpose::ServerAuth]),
        "refused: its extended key usage is serverAuth only",
    ),
    Role {
        common_name: "sn0123030405060708EE",
        ..good(
            "no-eku",
            Shape::Atecc608,
            "a secure element's: no extended key usage; refused where clientAuth is required",
        )
    },
];

/// How long a leaf of the development PKI is valid, in days.
pub const LEAF_DAYS: i64 = 365;
const ISSUING_DAYS: i64 = 5 * 365;
const ROOT_DAYS: i64 = 10 * 365;
/// What ends sooner than this is made anew, in days.
const RENEW_BEFORE_DAYS: i64 = 30;

const ROOT_FILE: &str = "root-ca.crt";
const ISSUING_FILE: &str = "issuing-ca.crt";
const CRL_FILE: &str = "issuing.crl";
const README_FILE: &str = "README.txt";
const LOCK_FILE: &str = ".lock";

impl Role {
    fn profile(&self, now: OffsetDateTime) -> LeafProfile {
        let validity = match self.window {
            Window::Current => Validity::days_from(now, LEAF_DAYS),
            Window::Past => Validity::past(now),
            Window::Future => Validity::future(now),
        };
        match self.shape {
            Shape::Server => LeafProfile::localhost(validity),
            Shape::Device(purposes) => {
                LeafProfile::device(self.common_name, validity).with_purposes(purposes)
            }
            Shape::Atecc608 => LeafProfile::atecc608(self.common_name, validity),
        }
    }
}

/// The development PKI in memory, with the authorities' keys.
#[derive(Debug)]
pub struct MemoryPki {
    /// The root.
    pub root: Authority,
    /// The authority that issues everything good; path length 0.
    pub issuing: Authority,
    /// The root that nobody trusts.
    pub foreign: Authority,
    /// The issuing authority's CRL, number 1.
    pub crl: Crl,
    leaves: Vec<Leaf>,
}

impl MemoryPki {
    /// Makes every row of [`ROLES`] as of `now`.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn new(now: OffsetDateTime) -> Result<Self, Error> {
        let validity = |days| Validity::days_from(now, days);
        // The past window reaches back a year; authorities must have been valid then.
        let since = |days| Validity { not_before: now - Duration::days(400), ..validity(days) };
        let root = Authority::root("Signet development root CA", KeyKind::P256, since(ROOT_DAYS))?;
        let issuing =
            root.intermediate("Signet development issuing CA", KeyKind::P256, since(ISSUING_DAYS), 0)?;
        let foreign = Authority::root("Foreign root CA", KeyKind::P256, since(ROOT_DAYS))?;
        let mut leaves = Vec::with_capacity(ROLES.len());
        let mut revoked = Vec::new();
        for role in ROLES {
            let authority = match role.issued_by {
                IssuedBy::Issuing => &issuing,
                IssuedBy::Foreign => &foreign,
            };
            let leaf = authority.issue(&role.profile(now))?;
            if role.revoked {
                revoked.push(leaf.serial().clone());
            }
            leaves.push(leaf);
        }
        let revoked: Vec<_> = revoked.iter().collect();
        let crl = issuing.crl(&CrlProfile::new(1, now, LEAF_DAYS, &revoked))?;
        Ok(Self { root, issuing, foreign, crl, leaves })
    }

    /// The certificate of a role; `None` when [`ROLES`] has no such row.
    #[must_use]
    pub fn leaf(&self, name: &str) -> Option<&Leaf> {
        let at = ROLES.iter().position(|role| role.name == name)?;
        self.leaves.get(at)
    }
}

/// The files of one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePaths {
    /// The leaf certificate, PEM.
    pub certificate: PathBuf,
    /// Leaf and issuing authority, PEM: what a server or client presents.
    pub chain: PathBuf,
    /// The private key, PKCS#8 PEM, mode 0600.
    pub key: PathBuf,
}

/// The development PKI as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevPki {
    directory: PathBuf,
    /// Whether this call made the files; `false` when they were there and good.
    pub made: bool,
}

impl DevPki {
    /// The directory that holds everything.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The root's certificate.
    #[must_use]
    pub fn root_ca(&self) -> PathBuf {
        self.directory.join(ROOT_FILE)
    }

    /// The issuing authority's certificate: the trust anchor that costs a handshake least.
    #[must_use]
    pub fn issuing_ca(&self) -> PathBuf {
        self.directory.join(ISSUING_FILE)
    }

    /// The issuing authority's CRL, PEM.
    #[must_use]
    pub fn crl(&self) -> PathBuf {
        self.directory.join(CRL_FILE)
    }

    /// The files of `role`, a row of [`ROLES`].
    #[must_use]
    pub fn role(&self, role: &Role) -> RolePaths {
        self.named(role.name)
    }

    /// The files of the role called `name`; they exist when [`ROLES`] has that row.
    #[must_use]
    pub fn named(&self, name: &str) -> RolePaths {
        RolePaths {
            certificate: self.directory.join(format!("{name}.crt")),
            chain: self.directory.join(format!("{name}-chain.crt")),
            key: self.directory.join(format!("{name}.key")),
        }
    }

    /// The broker's own certificate and key.
    #[must_use]
    pub fn server(&self) -> RolePaths {
        self.named("server")
    }
}

/// Makes the development PKI in `directory` when a file is missing or nears its end.
///
/// Two processes may call this at once for one directory: an advisory lock lets one of them work
/// and the other find the result. Files are written beside their place and renamed.
///
/// # Errors
/// When a key cannot be made, or the directory or a file cannot be written.
pub fn ensure(directory: &Path) -> Result<DevPki, Error> {
    ensure_at(directory, SystemTime::now().into())
}

/// [`ensure`] as of `now`.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_at(directory: &Path, now: OffsetDateTime) -> Result<DevPki, Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    std::fs::create_dir_all(directory).map_err(at(directory))?;
    let lock_path = directory.join(LOCK_FILE);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(at(&lock_path))?;
    lock.lock().map_err(at(&lock_path))?;
    let mut pki = DevPki { directory: directory.to_owned(), made: false };
    if !is_complete(&pki, now) {
        write_all(&pki, now)?;
        pki.made = true;
    }
    lock.unlock().map_err(at(&lock_path))?;
    Ok(pki)
}

/// Whether every file is there and nothing that should be valid ends soon. The CRL is removed first
/// and written last, so a process that died half-way leaves an incomplete set behind.
fn is_complete(pki: &DevPki, now: OffsetDateTime) -> bool {
    let lasts =
        |end: Option<OffsetDateTime>| end.is_some_and(|end| end - Duration::days(RENEW_BEFORE_DAYS) > now);
    let roles = ROLES.iter().all(|role| {
        let paths = pki.role(role);
        let renewable = role.window == Window::Current;
        let ends = certificate_end(&paths.certificate);
        ends.is_some() && (!renewable || lasts(ends)) && paths.chain.is_file() && paths.key.is_file()
    });
    roles
        && lasts(certificate_end(&pki.root_ca()))
        && lasts(certificate_end(&pki.issuing_ca()))
        && lasts(crl_end(&pki.crl()))
}

fn certificate_end(path: &Path) -> Option<OffsetDateTime> {
    let text = std::fs::read(path).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.to_datetime())
}

fn crl_end(path: &Path) -> Option<OffsetDateTime> {
    let text = std::fs::read(path).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).ok()?;
    let (_, crl) = x509_parser::parse_x509_crl(&pem.contents).ok()?;
    Some(crl.next_update()?.to_datetime())
}

fn write_all(pki: &DevPki, now: OffsetDateTime) -> Result<(), Error> {
    let memory = MemoryPki::new(now)?;
    let crl = pki.crl();
    match std::fs::remove_file(&crl) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(Error::Io { path: crl, source });
        }
        _ => {}
    }
    write(&pki.root_ca(), &memory.root.certificate_pem(), 0o644)?;
    write(&pki.issuing_ca(), &memory.issuing.certificate_pem(), 0o644)?;
    for (role, leaf) in ROLES.iter().zip(&memory.leaves) {
        let paths = pki.role(role);
        write(&paths.certificate, &leaf.certificate_pem(), 0o644)?;
        write(&paths.chain, &leaf.chain_pem(), 0o644)?;
        write(&paths.key, &leaf.key_pem(), 0o600)?;
    }
    write(&pki.directory.join(README_FILE), &readme(), 0o644)?;
    write(&crl, &memory.crl.pem(), 0o644)
}

/// Writes beside `path`, then renames: a reader sees the old content or the new, never a part.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let put = || {
        // A left-over of a process that died may have another mode; the mode is set on creation.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file: File = options.write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    put().map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn readme() -> String {
    let mut text = String::from(
        "Development certificates, made by signet-certs-dev. Never use them in production.\n\
         The authorities' private keys were thrown away; delete this directory to have all of it\n\
         made anew.\n\n\
         NAME.crt         the certificate            NAME.key   its private key (mode 0600)\n\
         NAME-chain.crt   certificate and issuer     issuing.crl   revokes revoked.crt\n\
         root-ca.crt      the root                   issuing-ca.crt   signed by the root\n\n",
    );
    for role in ROLES {
        text.push_str(&format!("{:<14} CN={:<21} {}\n", role.name, role.common_name, role.about));
    }
    text
}
