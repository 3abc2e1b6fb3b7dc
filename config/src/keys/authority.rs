//! The authorities that the broker is, and was.

use super::{DAY, Entry, key, required, secs};
use crate::schema::Kind;
use crate::schema::TakesEffect::Reload;

/// `[ca]`: where the authority is.
pub(super) const CA_PLACE: &[Entry] = &[key(
    "directory",
    Kind::File,
    "\"ca\"",
    Reload,
    "Folder with the issuing authority's `issuing.crt` and `issuing.key`, which `signet ca init` makes; the key may be in a token instead. With a table [ca] the broker issues certificates; it needs the registry.",
)];

/// Where an authority has its private key: said alike of the one that the broker is and of those that it was.
pub(super) const PRIVATE_KEY: &[Entry] = &[
    key(
        "passphrase-file",
        Kind::File,
        "",
        Reload,
        "File of mode 0600 whose first line is the passphrase of `issuing.key`. Absent: the key is not encrypted.",
    ),
    key(
        "pkcs11-module",
        Kind::File,
        "",
        Reload,
        "Shared library of a PKCS #11 token, such as an HSM, that has the private key in place of `issuing.key`. `pkcs11-token` and `pkcs11-key` go with it.",
    ),
    key("pkcs11-token", Kind::Characters, "", Reload, "Label or serial number of the token."),
    key("pkcs11-key", Kind::Characters, "", Reload, "Label of the key pair in the token."),
    key(
        "pkcs11-pin-file",
        Kind::File,
        "",
        Reload,
        "File of mode 0600 whose first line is the user PIN of the token. Absent: the token needs no login, or has a keypad of its own.",
    ),
];

/// `[ca]`: what it issues.
pub(super) const CA: &[Entry] = &[
    key(
        "previous",
        Kind::Files,
        "[]",
        Reload,
        "Folders of authorities that this broker was before, each with `issuing.crt` and `issuing.key`: they issue nothing, and their revocation lists are still written. One whose key is elsewhere than there, or under another passphrase, is a [[ca-previous]].",
    ),
    key(
        "certificate-validity",
        secs(60, 50 * 365 * DAY),
        "\"90d\"",
        Reload,
        "How long a device's certificate is valid from when it is issued, in whole seconds; never past the authority's own end.",
    ),
    key(
        "backdate",
        secs(0, 30 * DAY),
        "\"1h\"",
        Reload,
        "How long a device's certificate is valid before it was issued, in whole seconds: for devices whose clock is behind.",
    ),
    key(
        "keys",
        Kind::Choices(&["p-256", "p-384", "p-521", "ed25519", "rsa"]),
        "[\"p-256\", \"p-384\", \"rsa\"]",
        Reload,
        "Kinds of public keys that are certified; RSA with 2048 to 4096 bits.",
    ),
    key(
        "crl-validity",
        secs(60, 365 * DAY),
        "\"7d\"",
        Reload,
        "From one revocation list to its nextUpdate, in whole seconds. A new list is written at every revocation, and when half of this is over.",
    ),
    key(
        "crl-file",
        Kind::File,
        "",
        Reload,
        "Where the revocation list is written, as PEM. Absent: `issuing.crl` in the folder.",
    ),
    key(
        "crl-url",
        Kind::Characters,
        "\"\"",
        Reload,
        "Address in device certificates at which others can fetch the revocation list. This broker does not need it.",
    ),
];

/// `[[ca-previous]]`.
pub(super) const CA_PREVIOUS: &[Entry] = &[
    required(
        "directory",
        Kind::File,
        Reload,
        "Folder with the `issuing.crt` of an authority that this broker was before: it issues nothing. `issuing.key` is there too, unless the key is in a token or nowhere.",
    ),
    key(
        "key",
        Kind::Choice(&["held", "none"]),
        "\"held\"",
        Reload,
        "With `held` the broker has the key and still writes the revocation list. With `none` it has no key: certificates of the authority connect as the registry says, and the list for others must be signed where the key is and put into the folder as `issuing.crl`; the broker publishes it, and says when it lacks a revocation or is due.",
    ),
];
