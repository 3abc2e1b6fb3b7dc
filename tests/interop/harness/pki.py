"""The development PKI, as the broker's own tool writes it, and the DER forms that a bare device has."""

import base64
import functools
import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----(.*?)-----END", re.DOTALL)


@dataclass(frozen=True)
class Pki:
    """A directory with `NAME.crt`, `NAME-chain.crt` and `NAME.key`, the CAs and the revocation list."""

    directory: Path
    scratch: Path

    @property
    def root(self):
        return self.directory / "root-ca.crt"

    @property
    def issuing(self):
        return self.directory / "issuing-ca.crt"

    @property
    def crl(self):
        return self.directory / "issuing.crl"

    def leaf(self, name):
        return self.directory / f"{name}.crt"

    def chain(self, name):
        return self.directory / f"{name}-chain.crt"

    def key(self, name):
        return self.directory / f"{name}.key"

    @property
    def foreign_root(self):
        """The root that signed the foreign certificate and nothing of ours."""
        path = self.scratch / "foreign-root.pem"
        if not path.exists():
            blocks = self.chain("foreign-ca").read_text().split("-----END CERTIFICATE-----\n")
            path.write_text(blocks[-2] + "-----END CERTIFICATE-----\n")
        return path

    def der(self, pem):
        """The DER files of a PEM file's blocks, in order."""
        return _der_files(pem, self.scratch)

    def bundle(self, *pems):
        """One PEM file with the contents of several."""
        path = self.scratch / ("+".join(pem.stem for pem in pems) + ".pem")
        path.write_text("".join(pem.read_text() for pem in pems))
        return path


@functools.cache
def _der_files(pem, scratch):
    files = []
    for number, block in enumerate(_BLOCK.findall(pem.read_text())):
        path = scratch / f"{pem.name}.{number}.der"
        path.write_bytes(base64.b64decode("".join(block.split())))
        files.append(path)
    return files
