"""How to reach a cluster: arguments, then the environment, then a data directory of this machine, as `merganser sql` does it."""
from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import ssl
from dataclasses import dataclass, field
from typing import Optional, Union
from urllib.parse import unquote, urlsplit

from .errors import InterfaceError

DEFAULT_PORT = 8765
DEFAULT_URL = f"https://localhost:{DEFAULT_PORT}"
CONNECT_TIMEOUT_S = 10.0
UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Server:
    """One address out of the url."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True)
class Options:
    """All that a connection needs to know. timeout: seconds for each statement, None: no limit."""

    servers: tuple[Server, ...]
    authorization: Optional[str] = field(repr=False)
    tls: Optional[ssl.SSLContext]
    connect_timeout: float
    timeout: Optional[float]


def seconds(value: Union[str, float, int, None], name: str) -> Optional[float]:
    """A time as a number or as text with a unit ("500ms", "5s", "1m"); None and 0 are None: no limit."""
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|)\s*", value)
        if not match:
            raise InterfaceError(f'{name} is a time such as 5 or "500ms", not "{value}"')
        value = float(match.group(1)) * UNITS_S[match.group(2)]
    if value < 0:
        raise InterfaceError(f"{name} is not less than 0")
    return float(value) or None


def parse_servers(url: str) -> tuple[tuple[Server, ...], Optional[str], Optional[str]]:
    """Servers of a list with commas, and user and password when the first one names them."""
    servers, user, password = [], None, None
    texts = [part.strip() for part in url.split(",") if part.strip()]
    for place, text in enumerate(texts):
        shown = _without_secrets(text, texts[place + 1:])
        try:
            parts = urlsplit(text if "://" in text else f"https://{text}")
            port = parts.port or DEFAULT_PORT
        except ValueError:  # whose text may hold the password
            raise InterfaceError(f'the url "{shown}" has no host and port that make sense') from None
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.path not in ("", "/"):
            raise InterfaceError(f'"{shown}" is no url of a server', hint="Such as https://localhost:8765, several with commas between.")
        servers.append(Server(parts.hostname, port, parts.scheme == "https"))
        user = user or (unquote(parts.username) if parts.username else None)
        password = password or (unquote(parts.password) if parts.password else None)
    if not servers:
        raise InterfaceError("the url names no server")
    return tuple(servers), user, password


def _without_secrets(text: str, later: list[str]) -> str:
    """A url for people. A password with a comma makes several of one, so what stands before an @ of a later one is not shown."""
    if any("@" in one for one in later):
        return "***"
    before, at, host = text.rpartition("@")
    return f"{before.partition('://')[0]}://***@{host}" if "://" in before else f"{'***' if at else ''}{at}{host}"


def is_local(url: str) -> bool:
    """Whether all servers of the url are on this machine by their names."""
    servers, _, _ = parse_servers(url)
    return all(one.host in ("localhost", "::1") or one.host.startswith("127.") for one in servers)


def local_url(folder: pathlib.Path) -> Optional[str]:
    """Where the server of a data directory listens."""
    try:
        listen = json.loads((folder / "node.json").read_text())["listen"]
        return f"https://localhost:{int(listen.rsplit(':', 1)[1])}"
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def local_admin(folder: pathlib.Path) -> Optional[str]:
    """The cluster's admin, as its data directory says."""
    try:
        users = json.loads((folder / "log" / "catalog.json").read_text())["catalog"]["users"]
        return next((user["name"] for user in users if user.get("role") == "admin"), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def environment(name: str) -> Optional[str]:
    """MERGANSER_<name>; empty counts as missing."""
    return os.environ.get(f"MERGANSER_{name}") or None


def first_line(path: Union[str, os.PathLike[str]]) -> str:
    """A secret out of a file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except OSError as error:
        raise InterfaceError(f'cannot read the file "{path}": {error.strerror}') from error


def tls_context(roots: Optional[str], cert: Optional[str], key: Optional[str], key_password: Optional[str],
                insecure: bool) -> ssl.SSLContext:
    """Raises InterfaceError when a file is missing or holds something else."""
    try:
        context = ssl.create_default_context(cafile=roots)
    except OSError as error:
        raise InterfaceError(f'cannot read the CA "{roots}": {error.strerror or error}') from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        try:
            context.load_cert_chain(cert, key, key_password or "")
        except OSError as error:
            raise InterfaceError(f'cannot use the certificate "{cert}": {error.strerror or error}') from error
    return context


def resolve(url: Optional[str] = None, username: Optional[str] = None, password: Optional[str] = None,
            tls_roots: Union[str, os.PathLike[str], None] = None, tls_cert: Union[str, os.PathLike[str], None] = None,
            tls_key: Union[str, os.PathLike[str], None] = None, tls_key_password: Optional[str] = None,
            insecure_skip_verify: Optional[bool] = None, connect_timeout: Union[str, float, None] = None,
            timeout: Union[str, float, None] = None) -> Options:
    """Fill in what was not given; raises InterfaceError for what makes no sense."""
    url = url or environment("URL")
    servers_user, servers_password = parse_servers(url)[1:] if url else (None, None)
    username = username or servers_user or environment("USERNAME")
    password = password or servers_password or environment("PASSWORD")
    if password is None and environment("PASSWORD_FILE"):
        password = first_line(environment("PASSWORD_FILE") or "")
    roots = os.fspath(tls_roots) if tls_roots else environment("TLS_ROOTS")
    cert = os.fspath(tls_cert) if tls_cert else environment("TLS_CERT")
    key = os.fspath(tls_key) if tls_key else environment("TLS_KEY")
    key_password = tls_key_password or environment("TLS_KEY_PASSWORD")
    if key and not cert:
        raise InterfaceError(f'tls_key "{key}" was given without tls_cert')
    insecure = insecure_skip_verify
    if insecure is None:
        insecure = (environment("INSECURE_SKIP_VERIFY") or "").lower() in ("1", "true", "yes", "on")

    folder = pathlib.Path(environment("DATA_DIR") or "merganser-data")
    if folder.is_dir() and (not url or is_local(url)):
        url = url or local_url(folder)
        username = username or (None if cert else local_admin(folder))
        if not roots and (folder / "tls" / "ca.crt").is_file():
            roots = str(folder / "tls" / "ca.crt")
    servers = parse_servers(url or DEFAULT_URL)[0]
    if not username and not cert:
        raise InterfaceError("nobody to log in as", hint="Give username and password, or tls_cert; or MERGANSER_USERNAME.")
    if username and password is None and not cert:
        raise InterfaceError(f'no password for "{username}"', hint="Give password, or MERGANSER_PASSWORD.")
    authorization = None
    if username and password is not None:
        authorization = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    needs_tls = any(server.tls for server in servers)
    wait = seconds(connect_timeout if connect_timeout is not None else environment("CONNECT_TIMEOUT"), "connect_timeout")
    return Options(servers=servers, authorization=authorization,
                   tls=tls_context(roots, cert, key, key_password, insecure) if needs_tls else None,
                   connect_timeout=wait or CONNECT_TIMEOUT_S,
                   timeout=seconds(timeout if timeout is not None else environment("TIMEOUT"), "timeout"))
