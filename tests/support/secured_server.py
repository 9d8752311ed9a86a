"""A MongoDB server that wants TLS and a login, as a platform's does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pymongo

from tests.support.databases import HOST, MongoServer

PASSWORD = "pass:wörd/@"  # each of them has a meaning in a URL
_ADMINISTRATOR = "root"
_DAYS = "2"


def can_certify() -> bool:
    return shutil.which("openssl") is not None


class Authority:
    """Makes certificates; `certificate` is its own."""

    def __init__(self, directory: Path, name: str = "tests") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self.certificate, self._key = directory, directory / "ca.pem", directory / "ca.key"
        subject = ("-subj", f"/CN=authority of {name}", "-days", _DAYS)
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", str(self._key), "-out", str(self.certificate), *subject)

    def certify(self, address: str) -> Path:
        """A file with a new key, and its certificate for this address."""
        key, request, made, extension = (self._directory / f"server.{suffix}" for suffix in ("key", "csr", "crt", "ext"))
        _openssl("req", *_NEW_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={address}")
        extension.write_text(f"subjectAltName=IP:{address}\n")
        signer = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial", "-days", _DAYS)
        _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(extension), "-out", str(made))
        both = self._directory / "server.pem"
        both.write_text(key.read_text() + made.read_text())
        return both


_NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


class SecuredServer:
    """Runs from `start` to `end`.  `url` has the address and the options of TLS, and no user."""

    def __init__(self, program: str, directory: Path) -> None:
        self.authority = Authority(directory)
        options = {
            "--tlsMode": "requireTLS",
            "--tlsCertificateKeyFile": str(self.authority.certify(HOST)),
            "--tlsCAFile": str(self.authority.certificate),
        }
        words = [word for pair in options.items() for word in pair]
        self._server = MongoServer(program, "--auth", "--tlsAllowConnectionsWithoutCertificates", *words)
        self.address = self._server.address
        self.url = self.url_of(None)

    def start(self) -> None:
        self._server.start()
        with pymongo.MongoClient[Any](self.url) as client:
            client.admin.command("createUser", _ADMINISTRATOR, pwd=PASSWORD, roles=["root"])

    def end(self) -> None:
        self._server.end()

    def url_of(self, user: str | None, **options: str) -> str:
        """The URL with a user, and with more options, or others."""
        login = f"{user}:{quote(PASSWORD, safe='')}@" if user else ""
        query = {"tls": "true", "tlsCAFile": str(self.authority.certificate), **options}
        return f"mongodb://{login}{self.address}/?{urlencode(query)}"

    def add_user(self, name: str, database: str, rights: dict[str, list[str]] | str) -> str:
        """A new user's URL.  `rights`: a role of the server's, or the actions by collection."""
        with pymongo.MongoClient[Any](self.url_of(_ADMINISTRATOR)) as client:
            role: Any = {"role": rights, "db": database}
            if not isinstance(rights, str):
                privileges = [{"resource": {"db": database, "collection": each}, "actions": rights[each]} for each in rights]
                client.admin.command("createRole", name, privileges=privileges, roles=[])
                role = name
            client.admin.command("createUser", name, pwd=PASSWORD, roles=[role])
        return self.url_of(name)

    def take_right(self, role: str, database: str, collection: str, action: str) -> None:
        """The users of this role have it no longer."""
        privilege = {"resource": {"db": database, "collection": collection}, "actions": [action]}
        with pymongo.MongoClient[Any](self.url_of(_ADMINISTRATOR)) as client:
            client.admin.command("revokePrivilegesFromRole", role, privileges=[privilege])

    def give_right(self, role: str, database: str, collection: str, action: str) -> None:
        """They have it."""
        privilege = {"resource": {"db": database, "collection": collection}, "actions": [action]}
        with pymongo.MongoClient[Any](self.url_of(_ADMINISTRATOR)) as client:
            client.admin.command("grantPrivilegesToRole", role, privileges=[privilege])
