"""The gateway's settings: every flag, its environment name, its default and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.endpoints import check_endpoint, check_key_file
from shared.logs import FORMATS, LEVELS
from shared.loopback import is_loopback
from shared.settings import SettingsError, option
from shared.sockets import MAX_FRAME_BYTES
from shared.wire import MAX_ATTACHMENTS

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """Raises SettingsError at construction when a value cannot be used."""

    host: str = option(
        "0.0.0.0", help="address that HTTP clients connect to; localhost: 127.0.0.1 and ::1"
    )
    port: int = option(
        8000, unit="TCP port", minimum=0, maximum=65535, help="port that HTTP clients connect to"
    )
    bind: tuple[str, ...] = option(
        ("tcp://127.0.0.1:5555",), unit="tcp:// or ipc://", help="where workers connect"
    )
    curve_key: str | None = option(
        None, unit="file", help="secret CURVE key of the worker port; encrypts it"
    )
    authorized_workers: str | None = option(
        None, unit="folder", help="public CURVE keys of the workers that may connect"
    )
    insecure_bind: bool = option(
        False, help="listen for workers beyond loopback without CURVE keys"
    )

    queue_size: int = option(100, minimum=0, help="most requests waiting for a slot")
    stream_wait: float = option(
        0.0,
        unit="seconds",
        minimum=0,
        help="longest that a stream waits for a slot; 0: it is refused at once",
    )
    queue_timeout: float = option(
        300.0,
        unit="seconds",
        minimum=0.001,
        help="longest a whole answer may take, and longest silence of a stream",
    )

    api_key: tuple[str, ...] = option((), secret=True, help="a key that clients must present")
    api_key_file: str | None = option(
        None, unit="file", help="keys that clients must present, one a line"
    )
    admin_key: tuple[str, ...] = option(
        (),
        secret=True,
        help="a key that orders to workers need; it is good for all an API key is good for",
    )
    admin_key_file: str | None = option(
        None, unit="file", help="keys that orders to workers need, one a line"
    )
    allowed_host: tuple[str, ...] = option(
        (),
        help="Host names accepted, against DNS rebinding; "
        "when listening on loopback only: localhost and loopback addresses",
    )
    cors_origin: tuple[str, ...] = option(
        (), unit="origin or *", help="web origins that may call the API from a browser"
    )

    vision_only: bool = option(False, help="refuse requests without an image")
    max_body_bytes: int = option(64 * MIB, unit="bytes", minimum=1, help="largest request body")
    max_buffered_bytes: int = option(
        1024 * MIB,
        unit="bytes",
        minimum=1,
        help="most memory that all requests may take: bodies, images, the pixels being checked and "
        "what answers repeat of their requests",
    )
    max_connections: int = option(1024, minimum=1, help="most HTTP connections at once")
    max_images: int = option(
        16, minimum=0, maximum=MAX_ATTACHMENTS, help="most images in one request"
    )
    max_image_bytes: int = option(20 * MIB, unit="bytes", minimum=1, help="largest image file")
    max_image_pixels: int = option(
        50_000_000, unit="pixels", minimum=1, help="largest image, width times height"
    )
    max_request_pixels: int = option(
        200_000_000, unit="pixels", minimum=1, help="most pixels of all images of a request"
    )
    image_hosts: tuple[str, ...] = option(
        (), unit="host or *.domain", help="the only hosts that image URLs may name; none: any"
    )
    allow_private_image_hosts: bool = option(
        False, help="image URLs may lead to loopback, private and link-local addresses"
    )
    fetch_timeout: float = option(
        10.0,
        unit="seconds",
        minimum=0.001,
        help="longest that fetching one image URL may take, without waiting for its turn",
    )
    fetch_concurrency: int = option(
        16,
        minimum=1,
        help="most image URLs fetched at once, in turns by request (a quarter of it from one host)",
    )

    header_timeout: float = option(
        10.0, unit="seconds", minimum=0.001, help="longest a client may take to send its headers"
    )
    body_timeout: float = option(
        120.0, unit="seconds", minimum=0.001, help="longest a client may take to send its body"
    )
    write_timeout: float = option(
        30.0, unit="seconds", minimum=0.001, help="longest a client may stop reading its stream"
    )
    keep_alive_interval: float = option(
        10.0, unit="seconds", minimum=0.001, help="silence of a stream before a comment is sent"
    )
    idle_timeout: int = option(
        30, unit="seconds", minimum=1, help="how long an idle connection is kept open"
    )
    shutdown_timeout: int = option(
        3, unit="seconds", minimum=0, help="how long running requests may go on after SIGTERM"
    )

    log_level: str = option("info", choices=LEVELS, help="least severe log line shown")
    log_format: str = option(
        "auto", choices=FORMATS, help="auto: text on a terminal, JSON elsewhere"
    )

    def __post_init__(self) -> None:
        if not self.bind:
            raise SettingsError("--bind: at least one endpoint is needed")
        if (self.curve_key is None) != (self.authorized_workers is None):
            raise SettingsError("--curve-key and --authorized-workers belong together: set both")
        if self.max_image_bytes > MAX_FRAME_BYTES:
            raise SettingsError(f"--max-image-bytes: must be at most {MAX_FRAME_BYTES}")
        if self.max_buffered_bytes < self.max_body_bytes:
            raise SettingsError(
                "--max-buffered-bytes: must be at least --max-body-bytes, or no large request fits"
            )
        if self.curve_key is not None and self.authorized_workers is not None:
            check_key_file("--curve-key", self.curve_key, secret=True)
            if not Path(self.authorized_workers).is_dir():
                raise SettingsError(
                    f"--authorized-workers: {self.authorized_workers} is not a folder"
                )
        for endpoint in self.bind:
            self._check_endpoint(endpoint)
        for origin in self.cors_origin:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise SettingsError(
                    f"--cors-origin: expected an origin such as https://example.com, got {origin!r}"
                )

    @property
    def beyond_loopback(self) -> bool:
        """Whether other machines can reach the HTTP port."""
        return not is_loopback(self.host)

    def _check_endpoint(self, endpoint: str) -> None:
        check_endpoint("--bind", endpoint, listens=True)
        scheme, _, address = endpoint.partition("://")
        if scheme == "ipc" or self.curve_key is not None or self.insecure_bind:
            return
        host = address.rpartition(":")[0].strip("[]")
        if not is_loopback(host):
            raise SettingsError(
                f"--bind: {endpoint} can be reached from other machines and has no keys; set "
                "--curve-key and --authorized-workers (scripts/keys makes them), "
                "or --insecure-bind on a network you trust"
            )


def read_api_keys(settings: Settings) -> tuple[str, ...]:
    """Return all API keys, from flags and file.

    Raises:
        SettingsError: the file cannot be read or holds no key, or a key cannot stand in a header.
    """
    return _read_keys("--api-key", settings.api_key, settings.api_key_file)


def read_admin_keys(settings: Settings) -> tuple[str, ...]:
    """Return all admin keys, as `read_api_keys` does."""
    return _read_keys("--admin-key", settings.admin_key, settings.admin_key_file)


def _read_keys(flag: str, values: tuple[str, ...], file: str | None) -> tuple[str, ...]:
    keys = values if file is None else (*values, *_keys_in(f"{flag}-file", Path(file)))
    for key in keys:
        if not (key and key.isascii() and key.isprintable() and key == key.strip()):
            raise SettingsError(f"{flag}: a key is one or more printable ASCII characters")
    return keys


def _keys_in(flag: str, path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{flag}: cannot read {path}: {error}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        # An empty file would otherwise let everybody in whom its owner meant to keep out.
        raise SettingsError(f"{flag}: {path} holds no key")
    return keys
