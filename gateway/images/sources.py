"""What an image source may look like, judged before anything is decoded or fetched."""

from __future__ import annotations

from gateway.errors import InvalidRequest
from gateway.generation import ImageSource
from gateway.images.kinds import is_base64_of_picture

INVALID_IMAGE = "invalid_image"
MAX_URL_CHARACTERS = 8192


class InvalidImage(InvalidRequest):
    """The image at `param` cannot be used."""

    code = INVALID_IMAGE


def is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"


def is_web_url(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def check_source(source: ImageSource) -> None:
    """Raises InvalidImage for anything but a data URL, the base64 of one or an http(s) URL."""
    url = source.url
    if is_data_url(url):
        return
    if not is_web_url(url):
        if is_base64_of_picture(url):
            return
        raise InvalidImage(
            f"{source.param}: expected an http(s) URL, a data URL such as "
            "data:image/png;base64,... or a picture's base64 (files of the server cannot be "
            "named).",
            param=source.param,
        )
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidImage(
            f"{source.param}: a URL has at most {MAX_URL_CHARACTERS} characters.",
            param=source.param,
        )
