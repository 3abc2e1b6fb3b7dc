//! `signet ca` and `signet crl`.

use std::fmt::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Method;
use serde::Serialize;
use signet_config::{CaKey, Pkcs11};
use signet_registry::Wall;
use signet_registry::ca::{
    AuthorityName, Issuer, KeySigner, NewKey, Passphrase, PrivateKeyPem, Signer, make_issuing, make_root,
    random_serial,
};

use super::args::{AuthorityKeyArg, ImportArgs, InitArgs, SetCaArgs, TokenArgs};
use super::device::word;
use super::{left, moment, short};
use crate::admin::registry::api::{CaRow, Changed, ImportCa, ImportedCa, RevocationList, SetCa};
use crate::ca::pkcs11::Pkcs11Signer;
use crate::ca::{CERTIFICATE_FILE, KEY_FILE, public_key_of, read_secret, replace};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

/// The root's certificate, in its own place and, as a copy, beside the issuing authority.
const ROOT_CERTIFICATE: &str = "root.crt";
/// The root's private key, in its own place only.
const ROOT_KEY: &str = "root.key";

/// What `signet ca init` made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Made {
    issuing_certificate: PathBuf,
    /// The file; `None` when the key is in a token.
    issuing_key: Option<PathBuf>,
    /// The token and the label of the key in it.
    issuing_token: Option<String>,
    issuing_id: String,
    encrypted: bool,
    root_certificate: Option<PathBuf>,
    root_key: Option<PathBuf>,
}

/// Where things go and what protects them.
struct Target {
    directory: PathBuf,
    key: KeyTarget,
}

/// Where the issuing key goes.
enum KeyTarget {
    File(Option<Passphrase>),
    Token(Pkcs11),
}

/// The issuing key, and what of it is written to a file.
struct IssuingKey {
    signer: Arc<dyn Signer>,
    file: Option<PrivateKeyPem>,
}

pub(super) fn init(args: &InitArgs) -> Result<Outcome, Failure> {
    let target = target(args)?;
    for file in [CERTIFICATE_FILE, KEY_FILE] {
        absent(&target.directory.join(file))?;
    }
    let now = Wall(crate::clock::wall().0);
    let made = match (&args.certificate, &args.private_key, &args.root) {
        (Some(certificate), key, _) => take_over(args, &target, certificate, key.as_deref(), now)?,
        (None, None, Some(root)) => make(args, &target, root, now)?,
        _ => return Err(Failure::usage("give --root DIR, or --certificate and --private-key")),
    };
    if args.json {
        say_json(&made)?;
        return Ok(Outcome::Done);
    }
    let key = match (&made.issuing_key, &made.issuing_token) {
        (Some(file), _) if made.encrypted => format!("{}, encrypted", file.display()),
        (Some(file), _) => {
            format!("{}, not encrypted: mode 0600 is all that protects it", file.display())
        }
        (None, token) => format!("in the token: {}", token.as_deref().unwrap_or_default()),
    };
    let mut text = format!(
        "issuing authority {}\n  certificate {}\n  private key {key}\n",
        short(&made.issuing_id),
        made.issuing_certificate.display(),
    );
    if let (Some(certificate), Some(key)) = (&made.root_certificate, &made.root_key) {
        let _ = writeln!(
            text,
            "root\n  certificate {}\n  private key {}: put it where no broker can read it\n\n\
             next: name {} or the issuing certificate in client-ca of the [[listener]], and restart the broker",
            certificate.display(),
            key.display(),
            certificate.display()
        );
    }
    say(&text);
    Ok(Outcome::Done)
}

fn target(args: &InitArgs) -> Result<Target, Failure> {
    let (directory, named) = match (&args.config, &args.directory) {
        (Some(path), _) => {
            let config = signet_config::load(path)
                .map_err(|problems| Failure::found(signet_config::render(&problems)))?;
            let ca = config.ca.ok_or_else(|| {
                Failure::found(format!(
                    "{}: there is no [ca] in it: write one, and [registry] mode = \"on\"",
                    path.display()
                ))
            })?;
            (ca.directory, ca.key)
        }
        (None, Some(directory)) => (directory.clone(), named_key(&args.token)),
        (None, None) => return Err(Failure::usage("give --config FILE or --directory DIR")),
    };
    let key = match named {
        CaKey::File { passphrase_file } => {
            if args.token.existing_key {
                return Err(Failure::usage(
                    "--existing-key is for a key in a token: give --pkcs11-module too",
                ));
            }
            let file = args.passphrase_file.as_deref().or(passphrase_file.as_deref());
            KeyTarget::File(passphrase(file)?)
        }
        CaKey::Pkcs11(token) => KeyTarget::Token(token),
    };
    Ok(Target { directory, key })
}

/// Where the command line says that the key is.
fn named_key(args: &TokenArgs) -> CaKey {
    match (&args.pkcs11_module, &args.pkcs11_token, &args.pkcs11_key) {
        (Some(module), Some(token), Some(key)) => CaKey::Pkcs11(Pkcs11 {
            module: module.clone(),
            token: token.clone(),
            key: key.clone(),
            pin_file: args.pkcs11_pin_file.clone(),
        }),
        _ => CaKey::File { passphrase_file: None },
    }
}

fn passphrase(path: Option<&Path>) -> Result<Option<Passphrase>, Failure> {
    let read = |path| {
        read_secret(path)
            .map(|text| Passphrase::first_line(&text))
            .map_err(|error| Failure::usage(error.to_string()))
    };
    path.map(read).transpose()
}

fn absent(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Err(Failure::found(format!("{}: it exists, and nothing is overwritten", path.display())));
    }
    Ok(())
}

fn found(error: impl std::fmt::Display) -> Failure {
    Failure::found(error.to_string())
}

fn make(args: &InitArgs, target: &Target, root_dir: &Path, now: Wall) -> Result<Made, Failure> {
    if inside(root_dir, &target.directory) {
        return Err(Failure::found(
            "the root must not be in the folder that the broker reads: give --root another place, such as a removable medium",
        ));
    }
    let root_certificate = root_dir.join(ROOT_CERTIFICATE);
    let root_key = root_dir.join(ROOT_KEY);
    absent(&root_certificate)?;
    absent(&root_key)?;
    let root_passphrase = passphrase(args.root_passphrase_file.as_deref())?;
    let kind = match args.key_kind {
        AuthorityKeyArg::P256 => NewKey::P256,
        AuthorityKeyArg::P384 => NewKey::P384,
    };
    let named = |what: &str| AuthorityName::try_from(format!("{} {what}", args.name).as_str()).map_err(found);
    let serial = || random_serial().map_err(|_| Failure::usage("the random number generator does not work"));
    let root_signer = KeySigner::generate(kind).map_err(found)?;
    let root =
        make_root(&named("Root CA")?, &root_signer, args.root_validity, now, serial()?).map_err(found)?;
    let root_pem = private_pem(&root_signer, root_passphrase.as_ref())?;
    let root_issuer = Issuer::load(&root.der, Arc::new(root_signer), now).map_err(found)?;
    for directory in [root_dir, target.directory.as_path()] {
        folder(directory)?;
    }
    let key = new_key(args, target, kind)?;
    let issuing = make_issuing(
        &root_issuer,
        key.signer.public_key(),
        &named("Issuing CA")?,
        args.validity,
        None,
        now,
        serial()?,
    )
    .map_err(found)?;
    // Loaded as the broker will load it, before anything is written.
    let issuer = Issuer::load(&issuing.der, Arc::clone(&key.signer), now).map_err(found)?;
    write(&root_key, root_pem.expose().as_bytes(), 0o600)?;
    write(&root_certificate, root.pem().as_bytes(), 0o644)?;
    write(&target.directory.join(ROOT_CERTIFICATE), root.pem().as_bytes(), 0o644)?;
    let mut made = store(target, &issuer, key.file.as_ref())?;
    made.root_certificate = Some(root_certificate);
    made.root_key = Some(root_key);
    Ok(made)
}

/// A new issuing key, or the one that is in the token.
fn new_key(args: &InitArgs, target: &Target, kind: NewKey) -> Result<IssuingKey, Failure> {
    Ok(match &target.key {
        KeyTarget::File(passphrase) => {
            let signer = KeySigner::generate(kind).map_err(found)?;
            let file = private_pem(&signer, passphrase.as_ref())?;
            IssuingKey { signer: Arc::new(signer), file: Some(file) }
        }
        KeyTarget::Token(token) => {
            let signer = if args.token.existing_key {
                Pkcs11Signer::open(token, &target.directory, None)
            } else {
                Pkcs11Signer::generate(token, &target.directory, kind)
            };
            IssuingKey { signer: Arc::new(signer.map_err(found)?), file: None }
        }
    })
}

fn take_over(
    args: &InitArgs,
    target: &Target,
    certificate: &Path,
    key: Option<&Path>,
    now: Wall,
) -> Result<Made, Failure> {
    let bytes = std::fs::read(certificate)
        .map_err(|error| Failure::usage(format!("{}: {error}", certificate.display())))?;
    folder(&target.directory)?;
    let key = match (&target.key, key) {
        (KeyTarget::Token(token), None) => {
            let signer = Pkcs11Signer::open(token, &target.directory, public_key_of(&bytes));
            IssuingKey { signer: Arc::new(signer.map_err(found)?), file: None }
        }
        (KeyTarget::Token(_), Some(_)) => {
            return Err(Failure::usage(
                "--private-key is a file, and [ca] says that the key is in a token: import it there with the token's own tool",
            ));
        }
        (KeyTarget::File(passphrase), Some(key)) => taken_key(args, key, passphrase.as_ref())?,
        (KeyTarget::File(_), None) => return Err(Failure::usage("give --private-key with --certificate")),
    };
    let issuer = Issuer::load(&bytes, Arc::clone(&key.signer), now).map_err(|error| {
        Failure::found(format!("{}: {error}\n  hint: {}", certificate.display(), error.hint()))
    })?;
    store(target, &issuer, key.file.as_ref())
}

/// A key out of a file, encrypted anew.
fn taken_key(args: &InitArgs, key: &Path, target: Option<&Passphrase>) -> Result<IssuingKey, Failure> {
    let unlocked = passphrase(args.private_key_passphrase_file.as_deref())?;
    let text = read_secret(key).map_err(|error| Failure::usage(error.to_string()))?;
    let signer = KeySigner::from_pem(&text, unlocked.as_ref())
        .map_err(|error| Failure::found(format!("{}: {error}", key.display())))?;
    let file = private_pem(&signer, target)?;
    Ok(IssuingKey { signer: Arc::new(signer), file: Some(file) })
}

fn private_pem(signer: &KeySigner, passphrase: Option<&Passphrase>) -> Result<PrivateKeyPem, Failure> {
    match passphrase {
        Some(passphrase) => signer.to_encrypted_pem(passphrase),
        None => signer.to_pem(),
    }
    .map_err(found)
}

fn store(target: &Target, issuer: &Issuer, key: Option<&PrivateKeyPem>) -> Result<Made, Failure> {
    let issuing_key = target.directory.join(KEY_FILE);
    let issuing_certificate = target.directory.join(CERTIFICATE_FILE);
    if let Some(key) = key {
        write(&issuing_key, key.expose().as_bytes(), 0o600)?;
    }
    write(&issuing_certificate, issuer.certificate_pem().as_bytes(), 0o644)?;
    let (encrypted, issuing_token) = match &target.key {
        KeyTarget::File(passphrase) => (passphrase.is_some(), None),
        KeyTarget::Token(token) => (false, Some(format!("{}, key {}", token.token, token.key))),
    };
    Ok(Made {
        issuing_certificate,
        issuing_key: key.map(|_| issuing_key),
        issuing_token,
        issuing_id: issuer.id().to_string(),
        encrypted,
        root_certificate: None,
        root_key: None,
    })
}

/// Whether a folder that may not exist yet is another one or lies in it.
fn inside(path: &Path, other: &Path) -> bool {
    let whole = |path: &Path| {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let there = absolute.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_owned);
        let real = there.as_deref().and_then(|there| there.canonicalize().ok());
        match (there, real) {
            (Some(there), Some(real)) => {
                absolute.strip_prefix(&there).map_or_else(|_| absolute.clone(), |rest| real.join(rest))
            }
            _ => absolute,
        }
    };
    whole(path).starts_with(whole(other))
}

fn folder(path: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    replace(path, bytes, mode).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

pub(super) fn show(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let rows: Vec<CaRow> = call(admin, Method::GET, "/registry/cas", None::<&()>)?;
    if admin.json {
        say_json(&rows)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for row in &rows {
        let whose = if row.own { "own" } else { "outside" };
        let state = match (row.revoked_ms, row.connect) {
            (Some(since), _) => format!("revoked since {}", moment(since)),
            (None, true) => "trusted for connections".to_owned(),
            (None, false) => "suspended".to_owned(),
        };
        let template = row.template.as_deref().map(|name| format!(" by {name}")).unwrap_or_default();
        let _ = writeln!(text, "{} ({whose})", row.subject);
        let _ = writeln!(text, "  id           {}", row.id);
        let _ = writeln!(text, "  key          {}", row.key);
        let _ = writeln!(text, "  state        {state}, ends in {}", left(row.not_after));
        let _ = writeln!(text, "  names        {} as {}", row.names.join(" "), row.role);
        let _ = writeln!(text, "  unknown ones {}{template}{}", row.unknown, bounds(row));
        let _ = writeln!(text, "  certificates {}, {} wait to be activated", row.certificates, row.waiting);
    }
    let _ = writeln!(text, "{} authorities", rows.len());
    say(&text);
    Ok(Outcome::Done)
}

/// What an authority has brought in by itself, and what it may.
fn bounds(row: &CaRow) -> String {
    if row.unknown == "registered-only" {
        return String::new();
    }
    let registers = if row.registers { "" } else { ", registers none" };
    let most = row.devices_max.map_or_else(String::new, |max| format!(" of at most {max}"));
    let joins = if row.joins_others { ", joins things of others" } else { "" };
    format!("{registers}, has brought in {}{most} devices{joins}", row.devices)
}

pub(super) fn set(args: SetCaArgs) -> Result<Outcome, Failure> {
    let SetCaArgs { id, devices_max, registers, joins_others, admin } = args;
    let wanted = SetCa { id, devices_max, registers, joins_others };
    let changed: Changed = call(&admin, Method::POST, "/registry/cas/set", Some(&wanted))?;
    if admin.json {
        say_json(&changed)?;
    } else {
        say("the authority is set so\n");
    }
    Ok(Outcome::Done)
}

pub(super) fn import(args: ImportArgs) -> Result<Outcome, Failure> {
    let certificate = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::usage(format!("{}: {error}", args.file.display())))?;
    let wanted = ImportCa {
        certificate,
        names: args.names,
        role: Some(word(&args.role)),
        unknown: Some(word(&args.unknown)),
        template: args.template,
        share_names_with: args.share_names_with,
        devices_max: args.devices_max,
        joins_others: args.joins_others,
    };
    let imported: ImportedCa = call(&args.admin, Method::POST, "/registry/cas/import", Some(&wanted))?;
    if args.admin.json {
        say_json(&imported)?;
    } else {
        say(&format!(
            "authority {} is registered; a [[listener]] must name its file in client-ca too\n",
            short(&imported.id)
        ));
    }
    Ok(Outcome::Done)
}

pub(super) fn show_list(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let list: RevocationList = call(admin, Method::GET, "/registry/crl", None::<&()>)?;
    say_list(admin, &list)
}

pub(super) fn write_list(admin: &AdminArgs, output: Option<&Path>) -> Result<Outcome, Failure> {
    let list: RevocationList = call(admin, Method::POST, "/registry/crl/write", None::<&()>)?;
    if let Some(path) = output {
        write(path, list.pem.as_bytes(), 0o644)?;
    }
    say_list(admin, &list)
}

fn say_list(admin: &AdminArgs, list: &RevocationList) -> Result<Outcome, Failure> {
    if admin.json {
        say_json(list)?;
    } else {
        say(&format!(
            "{}\n  number      {}\n  entries     {}\n  made        {}\n  next update {}\n",
            list.file,
            list.number,
            list.entries,
            moment(list.this_update_ms),
            moment(list.next_update_ms)
        ));
    }
    Ok(Outcome::Done)
}
