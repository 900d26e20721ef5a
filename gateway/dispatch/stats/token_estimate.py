"""How many tokens a text has, guessed from its words and characters.

Stands in where a worker's own count is missing because the worker died before it could send one.
The mean of two estimates: words x 1.3 and characters / 4. To divide the words by 1.3, as one also
finds it, is always too low; measured against three real tokenizers (`docs/operations.md`),
multiplying is nearer in every text but one of short common words.
"""

from __future__ import annotations

TOKENS_PER_WORD = 1.3
CHARACTERS_PER_TOKEN = 4.0


def estimate_tokens(words: int, characters: int) -> int:
    """Return the estimate, at least 1 for any text at all."""
    if not characters:
        return 0
    return max(1, round((words * TOKENS_PER_WORD + characters / CHARACTERS_PER_TOKEN) / 2))
