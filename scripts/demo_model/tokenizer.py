"""The checkpoint's tokenizer: a byte-level BPE trained on the domain's own conversations."""

import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scripts.demo_model.checkpoint import CHECKPOINT
from scripts.demo_model.questions import QUESTION_KINDS, random_question
from scripts.demo_model.small_talk import CAPITALS, FALLBACK, HELLO_IN, OTHER_NAMES

CHAT_TEMPLATE = CHECKPOINT / "chat_template.jinja"
VOCABULARY_SIZE = 1024
CORPUS_CONVERSATIONS = 12_000
SPECIAL_TOKENS: tuple[str, ...] = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TOOL_TOKENS: tuple[str, ...] = ("<tool_call>", "</tool_call>")
# Qwen2's own: words with the space before them, single digits, runs of punctuation, line ends.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus(seed: int) -> Iterator[str]:
    """Texts that the model will read and write."""
    rng = random.Random(seed)
    for index in range(CORPUS_CONVERSATIONS):
        conversation = random_question(QUESTION_KINDS[index % len(QUESTION_KINDS)], rng)
        yield conversation.answer
        for message in conversation.messages:
            content = message["content"]
            parts = [{"text": content}] if isinstance(content, str) else content
            yield from (part["text"] for part in parts if "text" in part)
    for _ in range(8):
        yield from CAPITALS
        yield from (f" {name}" for name in (*CAPITALS, *CAPITALS.values(), *OTHER_NAMES))
    yield from (*HELLO_IN.values(), FALLBACK, "system\n", "user\n", "assistant\n")


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A tokenizer of VOCABULARY_SIZE tokens, the special ones first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(TOOL_TOKENS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed), trainer)
    tokenizer.add_tokens(list(TOOL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[
            token for token in SPECIAL_TOKENS if token not in ("<|im_end|>", "<|endoftext|>")
        ],
        chat_template=CHAT_TEMPLATE.read_text(),
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )
