"""How a model writes, read off its template: its thoughts, its calls, its tokens' texts."""

from __future__ import annotations

from worker.engine.model.config import ids_of
from worker.engine.model.model import LoadedModel
from worker.engine.text.answer import Language
from worker.engine.text.detokenizer import Vocabulary
from worker.engine.text.harmony import BEGINNINGS, MARKERS, speaks_harmony
from worker.engine.text.reasoning import find_markers
from worker.engine.text.tools import find_parser


def language_of(model: LoadedModel) -> Language:
    """How this model's tokens, thoughts and calls are read."""
    parser = find_parser(model.chat_template)
    markers = find_markers(model.chat_template)
    shown = {parser.tool_call_start, parser.tool_call_end}
    if markers is not None:
        shown |= {markers.start, markers.end}
    harmony = speaks_harmony(model.chat_template)
    if harmony:
        shown |= MARKERS
    vocabulary = Vocabulary(model.tokenizer, frozenset(shown))
    heads = ids_of(model.tokenizer, BEGINNINGS) if harmony else frozenset()
    return Language(vocabulary, model.eos_ids, markers, parser, harmony, heads)
