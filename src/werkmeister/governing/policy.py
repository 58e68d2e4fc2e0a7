"""The policy: what may leave this machine. The default is nothing."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from werkmeister.config import setting
from werkmeister.errors import SettingsError

_ENTRY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/@:\\*?#\[\]]+)(?::(?P<port>\d{1,5}))?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """What may leave this machine; by default nothing."""

    allow: tuple[str, ...] = setting(
        (),
        help="hosts that text may be sent to, such as api.example.com, or host:port for one port alone; "
        "this machine itself (localhost, 127.0.0.0/8, ::1) is always allowed",
    )

    def __post_init__(self) -> None:
        for entry in self.allow:
            if not _ENTRY.fullmatch(entry):
                raise ValueError(f"allow = {entry!r} is no host; write the host alone, such as api.example.com")


def require_allowed(url: str, policy: PolicySettings, *, sent: str = "the texts of documents and prompts") -> str:
    """The host of a URL that text may be sent to: this machine itself, or one that `policy.allow` names.

    Raises SettingsError otherwise, naming the setting, the host and what would be `sent`; and for what is no plain
    http(s) URL: one with a user name in it, say, reads as one host to a person and as another to a program.
    """
    parts = _parts(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return host
    port = parts.port or _PORTS[parts.scheme]
    if any(_matches(entry, host, port) for entry in policy.allow):
        return host
    allowed = ", ".join(policy.allow) or "none"
    raise SettingsError(
        f"the policy forbids sending anything to {host}: {sent} would leave this machine for {url} "
        f"(hosts in [policy] allow: {allowed})",
        hint=f'if that is wanted, add to expert.toml: [policy] allow = ["{_shown(host)}"]; otherwise name an engine on '
        "this machine",
    )


def is_loopback(host: str) -> bool:
    """Whether a host, as `urlsplit` gives it, is this machine: localhost, 127.0.0.0/8 or ::1.

    Other spellings of such addresses (127.1, 2130706433) do not count, since programs read them differently.
    """
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_number = urlsplit(""), False
    strange = re.search(r"[\s\\\x00-\x1f\x7f]", url) or "@" in parts.netloc or parts.query or parts.fragment
    if parts.scheme not in _PORTS or not parts.hostname or not port_is_number or strange:
        # What stands before an @ may be a password: it is not repeated.
        shown = re.sub(r"//[^/]*@", "//…@", url)
        raise SettingsError(
            f"{shown!r} is no plain URL of an endpoint",
            hint="write it like https://api.example.com/v1, without user name, blanks or query",
        )
    return parts


def _matches(entry: str, host: str, port: int) -> bool:
    found = _ENTRY.fullmatch(entry)
    if not found or _plain(found["host"]) != _plain(host):
        return False
    return found["port"] is None or int(found["port"]) == port


def _plain(host: str) -> str:
    """A host in the form in which two are compared: lower case, no final dot, international names in ASCII."""
    text = host.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        return text


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
