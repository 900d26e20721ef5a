"""First tokens of answers that must not come out of a step beside other rows'.

A row joins a batch with its prompt's last token still to be fed, as an answer's tokens are. Where a
model embeds those in another way, the row takes that step by itself.
"""

from __future__ import annotations

from worker.engine.model.model import LoadedModel
from worker.engine.schedule.batch import DecodeBatch
from worker.engine.schedule.prefill import Prefilled
from worker.engine.schedule.verification import Deliver


def say_first(model: LoadedModel, prefilled: Prefilled, deliver: Deliver) -> None:
    """Feed the last token of one row's prompt as the prompt has it, and deliver what comes next.

    Args:
        prefilled: of one row, which is DECODING; its cache takes up the token. Nothing is done if
            the row goes on with an answer.
    """
    (prefill,) = prefilled.prefills
    (row,) = prefill.sequences
    if row.output_tokens:
        return
    assert prefill.embedded is not None
    batch = DecodeBatch(model)
    batch.join([row], prefilled.cache, is_batch=False)
    batch.begin(*prefill.embedded.part(prefill.target, prefill.length), deliver)
    row.fresh = True  # to the batch that it joins now
