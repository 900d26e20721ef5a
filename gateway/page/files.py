"""The page's own files, read once: plain HTML, CSS and JavaScript as they stand in `static/`."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

STATIC = Path(__file__).resolve().parent / "static"

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

CONTENT_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # The pictures that the user chose are shown from memory.
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


@dataclass(frozen=True)
class PageFile:
    content: bytes
    media_type: str
    tag: str

    @property
    def headers(self) -> dict[str, str]:
        """`no-cache` lets browsers keep the file and makes them ask whether it is still the same:
        the modules of one page must never come from two versions of the gateway."""
        return {
            "Content-Type": self.media_type,
            "ETag": self.tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": CONTENT_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }


def read_files(folder: Path = STATIC) -> dict[str, PageFile]:
    """Return every file that the page may ask for, by its path below `folder`."""
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, MEDIA_TYPES[path.suffix], f'"{sha256(content).hexdigest()[:20]}"')
