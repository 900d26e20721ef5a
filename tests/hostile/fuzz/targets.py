"""What fuzzing feeds strangers' bytes to: each a function that may raise nothing.

`run.py` fuzzes them; `tests/hostile/test_corpus.py` replays the corpus that this left.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from gateway.api.common.conversation import ImageRules
from gateway.api.common.parameters import parse
from gateway.api.dialect import DIALECTS
from gateway.errors import InvalidRequest
from gateway.generation import ImageSource
from gateway.images.data_urls import decode_data_url
from gateway.images.inspect import decode, read_header, set_pillow_limits
from gateway.images.kinds import kind_of
from gateway.images.sources import InvalidImage, check_source, is_web_url
from shared import wire
from shared.messages import Message

MAX_PIXELS = 100_000
MAX_BYTES = 1_000_000

RULES = ImageRules(max_images=4, vision_only=False)


def requests(data: bytes) -> None:
    """Each dialect reads the same body, and makes a request of it or refuses it."""
    for dialect in DIALECTS:
        try:
            dialect.translate(parse(dialect.body, data), RULES, "")
        except InvalidRequest as refusal:
            assert refusal.message and refusal.status == 400


def images(data: bytes) -> None:
    """As a picture inside a data URL, as base64 alone, and as a data URL itself."""
    set_pillow_limits(MAX_PIXELS)
    alone = base64.b64encode(data).decode()
    text = data.decode("latin-1")
    for url in (f"data:image/png;base64,{alone}", alone, "data:" + text, text):
        try:
            source = ImageSource(url, "here")
            check_source(source)
            if is_web_url(url):
                continue
            decoded = decode_data_url(source, MAX_BYTES)
            kind_of(decoded)
            header = read_header(decoded, "here", MAX_PIXELS)
            info, _ = decode(decoded, header, "here", MAX_PIXELS)
        except InvalidImage as refusal:
            assert refusal.param == "here"
        else:
            assert 0 < info.width_px * info.height_px <= MAX_PIXELS


def messages(data: bytes) -> None:
    """The first two bytes are the header, the rest is the body; what is taken can be said again."""
    try:
        message, _ = wire.decode([data[:2], data[2:]], Message)
    except wire.ProtocolError:
        return
    assert wire.decode(wire.encode(message), Message)[0] is not None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "requests": requests,
    "images": images,
    "messages": messages,
}
