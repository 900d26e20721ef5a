"""API keys: who may ask at all, which tenant each holder is, and who may give orders."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import ApiError, Forbidden, InvalidApiKey
from gateway.http.error_body import error_response
from gateway.http.headers import header, host_name
from gateway.settings import Settings, read_admin_keys, read_api_keys
from shared.loopback import is_loopback

OPEN_PATHS = ("/", "/health")
OPEN_PREFIX = "/page/"
"""The page's own files: it asks its user for the key and sends it with each call."""

PROXY_HEADERS = (b"forwarded", b"via", b"x-real-ip")
PROXY_PREFIX = b"x-forwarded-"

HOW_TO_SEND = "send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."


class Keys:
    """The keys that are good now, by digest.

    Raises:
        SettingsError: a key or a file of keys cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.read()

    def read(self) -> None:
        """Read the files again. Whether there are keys at all cannot change by that: a file without
        any is refused.

        Raises:
            SettingsError: and the keys known before stay good.
        """
        api, admin = read_api_keys(self._settings), read_admin_keys(self._settings)
        self.api, self.admin = _digests(api), _digests(admin)


class ApiKeys:
    """Turns away requests without an API key or admin key; notes the tenant of the others."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                scope["state"]["tenant"] = self._tenant(scope)
            except InvalidApiKey as error:
                await error_response(error, scope["path"])(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _tenant(self, scope: Scope) -> str:
        """Return a name for the holder of the presented key.

        Raises:
            InvalidApiKey: there is no key, or a wrong one.
        """
        key = _presented_key(scope)
        if not key:
            raise InvalidApiKey(f"No API key was sent; {HOW_TO_SEND}")
        digest = sha256(key).digest()
        if not _is_among(digest, (*self._keys.api, *self._keys.admin)):
            raise InvalidApiKey("The API key is not valid.")
        return digest.hex()[:16]


def tenant_of(request: Request) -> str:
    """Return a name for the holder of the request's API key; empty when none is asked for."""
    tenant: str = request.scope["state"].get("tenant", "")
    return tenant


def check_operator(request: Request, keys: Keys) -> None:
    """Let through who may give orders: the holders of an admin key where there is one; else those
    of an API key where there is one (`ApiKeys` has turned the others away); else who asks from this
    machine, and through no proxy.

    Raises:
        InvalidApiKey: an admin key is wanted, and no key of ours was sent.
        Forbidden: a key was sent that is none for orders, or the request comes from elsewhere.
    """
    if keys.admin:
        if not _is_among(sha256(_presented_key(request.scope)).digest(), keys.admin):
            raise _no_admin(request)
    elif not keys.api and not _is_local(request.scope):
        raise Forbidden(
            "Without a key, workers take orders only from the gateway's own machine, and through "
            "no proxy; start the gateway with --admin-key to give them from elsewhere."
        )


def _no_admin(request: Request) -> ApiError:
    if tenant_of(request):
        return Forbidden(
            "Workers take orders from holders of an admin key; this key is none.",
            code="admin_key_required",
        )
    return InvalidApiKey(f"Workers take orders from holders of an admin key; {HOW_TO_SEND}")


def _is_local(scope: Scope) -> bool:
    """From this machine, by a name of it, and not passed on from elsewhere.

    A page that has rebound its own name to this machine comes from here too, but under that name;
    a page that an allowed origin (`--cors-origin`) lets in says where it is from.
    """
    caller = scope["client"][0] if scope["client"] else ""
    if not (is_loopback(caller) and is_loopback(host_name(scope))):
        return False
    for name, value in scope["headers"]:
        if name in PROXY_HEADERS or name.startswith(PROXY_PREFIX):
            return False
        if name == b"origin" and not _is_local_origin(value):
            return False
    return True


def _is_local_origin(origin: bytes) -> bool:
    try:
        return is_loopback(urlsplit(origin.decode("latin-1")).hostname or "")
    except ValueError:
        return False


def _digests(keys: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(sha256(key.encode()).digest() for key in keys)


def _is_among(digest: bytes, known: Iterable[bytes]) -> bool:
    # All are compared, so that the time taken tells nothing about which came close.
    matches = [hmac.compare_digest(digest, other) for other in known]
    return any(matches)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX)


def _presented_key(scope: Scope) -> bytes:
    scheme, _, key = header(scope, b"authorization").partition(b" ")
    if scheme.lower() == b"bearer":
        return key.strip()
    return header(scope, b"x-api-key")
