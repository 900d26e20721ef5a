"""Qwen2-VL in PyTorch, for training on padded batches of small images.

The parameters have the names and the shapes that Qwen2-VL checkpoints have, so that mlx-vlm loads
them as they are. Where mlx-vlm and transformers differ, this follows mlx-vlm.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.demo_model.images import FRAMES, MERGE, PATCH
from scripts.demo_model.regions import LESSONS
from scripts.demo_model.tokenizer import SPECIAL_TOKENS, VOCABULARY_SIZE

NOT_LEARNT = -100
VISION_ROPE_THETA = 10_000.0


@dataclass(frozen=True)
class Sizes:
    """The sizes of the network; those of attention heads are width / heads."""

    vision_width: int
    vision_layers: int
    vision_heads: int
    vision_mlp_ratio: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    rope_theta: float
    rope_sections: tuple[int, int, int]
    norm_eps: float


@dataclass
class Batch:
    """Padded tensors: B sequences of at most L tokens, I images of at most P patches."""

    tokens: Tensor  # (B, L)
    positions: Tensor  # (3, B, L): time, row, column
    parts: Tensor  # (B, L): tokens of different parts do not see each other, all see part 0
    targets: Tensor  # (B, L): the next token, NOT_LEARNT where there is nothing to learn
    allowed: Tensor  # (targets, vocabulary): between what the server lets the model choose there
    pixels: Tensor  # (I, P, 3 * PATCH * PATCH) bytes
    places: Tensor  # (I, P, 2): row and column of each patch
    present: Tensor  # (I, P): whether there is a patch
    lessons: Tensor  # (image tokens, lessons): see `regions`


Turn = tuple[Tensor, Tensor]  # cosine and sine


def turn_by(angles: Tensor) -> Turn:
    """Cosine and sine of angles, in the precision that attention computes in."""
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, turn: Turn) -> Tensor:
    """Rotary embedding: x is (..., d), the turn's tensors broadcast to (..., d / 2)."""
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Attention to all that is not hidden; q, k, v are (B, heads, L, d), hidden broadcasts to
    (B, heads, L, L).

    Written out, because its backward pass on a CPU is several times as fast as the fused one's.
    """
    with torch.autocast("cpu", enabled=False):
        bias = torch.zeros(hidden.shape, dtype=q.dtype).masked_fill(hidden, -1e9)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + bias
        return torch.softmax(scores, dim=-1) @ v


def frequencies(count: int, theta: float) -> Tensor:
    """(count,) angles per position, from 1 downwards."""
    return theta ** (-torch.arange(count, dtype=torch.float32) / count)


class VisionAttention(nn.Module):
    """Every patch of an image attends to all the others."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.vision_heads
        self.qkv = nn.Linear(sizes.vision_width, 3 * sizes.vision_width)
        self.proj = nn.Linear(sizes.vision_width, sizes.vision_width)

    def forward(self, x: Tensor, turn: Turn, hidden: Tensor) -> Tensor:
        """x (I, P, width), turn (I, 1, P, d / 2), hidden (I, 1, 1, P)."""
        images, patches, width = x.shape
        qkv = self.qkv(x).view(images, patches, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = rotate(q, turn), rotate(k, turn)
        x = attention(q, k, v, hidden)
        return self.proj(x.transpose(1, 2).reshape(images, patches, width))


class VisionMlp(nn.Module):
    """Two layers with a quick GELU."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        hidden = sizes.vision_width * sizes.vision_mlp_ratio
        self.fc1 = nn.Linear(sizes.vision_width, hidden)
        self.fc2 = nn.Linear(hidden, sizes.vision_width)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width)."""
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class VisionBlock(nn.Module):
    """Attention and MLP, each with a norm before and a sum after."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.vision_width, eps=1e-6)
        self.norm2 = nn.LayerNorm(sizes.vision_width, eps=1e-6)
        self.attn = VisionAttention(sizes)
        self.mlp = VisionMlp(sizes)

    def forward(self, x: Tensor, turn: Turn, hidden: Tensor) -> Tensor:
        """As VisionAttention."""
        x = x + self.attn(self.norm1(x), turn, hidden)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """One vector per patch."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        kernel = (FRAMES, PATCH, PATCH)
        self.proj = nn.Conv3d(3, sizes.vision_width, kernel, stride=kernel, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (I, P, 3 * PATCH * PATCH) bytes of one frame; the other frame is the same."""
        weight = self.proj.weight.sum(2).flatten(1)
        return functional.linear(pixels.to(weight.dtype) / 127.5 - 1, weight)


class PatchMerger(nn.Module):
    """Blocks of MERGE x MERGE patches become one token of the language model's width."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.block = sizes.vision_width * MERGE**2
        self.ln_q = nn.LayerNorm(sizes.vision_width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(self.block, self.block), nn.GELU(), nn.Linear(self.block, sizes.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (patches, vision width) to (patches / MERGE ** 2, width)."""
        return self.mlp(self.ln_q(x).view(-1, self.block))


class Vision(nn.Module):
    """The vision tower."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(sizes)
        self.blocks = nn.ModuleList(VisionBlock(sizes) for _ in range(sizes.vision_layers))
        self.merger = PatchMerger(sizes)
        quarter = sizes.vision_width // sizes.vision_heads // 4
        self.register_buffer(
            "frequencies", frequencies(quarter, VISION_ROPE_THETA), persistent=False
        )

    def forward(self, batch: Batch) -> Tensor:
        """(tokens of all images, width), image after image."""
        x = self.patch_embed(batch.pixels)
        angles = (batch.places[..., None] * self.frequencies).flatten(2)
        turn = turn_by(angles[:, None])
        hidden = ~batch.present[:, None, None]
        for block in self.blocks:
            x = block(x, turn, hidden)
        return self.merger(x[batch.present])


class Attention(nn.Module):
    """Every token attends to those before it that are not hidden."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.q_proj = nn.Linear(sizes.width, sizes.width)
        self.k_proj = nn.Linear(sizes.width, sizes.width)
        self.v_proj = nn.Linear(sizes.width, sizes.width)
        self.o_proj = nn.Linear(sizes.width, sizes.width, bias=False)

    def forward(self, x: Tensor, turn: Turn, hidden: Tensor) -> Tensor:
        """x (B, L, width), turn (B, 1, L, d / 2), hidden broadcasts to (B, 1, L, L)."""
        batch, length, width = x.shape
        projected = [proj(x) for proj in (self.q_proj, self.k_proj, self.v_proj)]
        q, k, v = (y.view(batch, length, self.heads, -1).transpose(1, 2) for y in projected)
        q, k = rotate(q, turn), rotate(k, turn)
        x = attention(q, k, v, hidden)
        return self.o_proj(x.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    """Gated MLP."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(sizes.width, sizes.mlp_width, bias=False)
        self.up_proj = nn.Linear(sizes.width, sizes.mlp_width, bias=False)
        self.down_proj = nn.Linear(sizes.mlp_width, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width)."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and MLP, each with a norm before and a sum after."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self_attn = Attention(sizes)
        self.mlp = Mlp(sizes)
        self.input_layernorm = nn.RMSNorm(sizes.width, eps=sizes.norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(sizes.width, eps=sizes.norm_eps)

    def forward(self, x: Tensor, turn: Turn, hidden: Tensor) -> Tensor:
        """As Attention."""
        x = x + self.self_attn(self.input_layernorm(x), turn, hidden)
        return x + self.mlp(self.post_attention_layernorm(x))


class Language(nn.Module):
    """The language model without its head, which is the embedding's transpose."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY_SIZE, sizes.width)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.width, eps=sizes.norm_eps)


class DemoModel(nn.Module):
    """Vision tower and language model."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.visual = Vision(sizes)
        self.model = Language(sizes)
        self.lesson_heads = nn.Linear(sizes.width, sum(LESSONS))
        self.image_token = SPECIAL_TOKENS.index("<|image_pad|>")
        half = sizes.width // sizes.heads // 2
        sections = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes.rope_sections))
        self.register_buffer("sections", sections, persistent=False)
        self.register_buffer("frequencies", frequencies(half, sizes.rope_theta), persistent=False)
        self.apply(self._initialize)

    @staticmethod
    def _initialize(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.04)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The hidden states, (B, L, width), and the image tokens, (image tokens, width)."""
        x = self.model.embed_tokens(batch.tokens)
        images = x.new_zeros(0, x.shape[-1])
        if len(batch.pixels):
            images = self.visual(batch).to(x.dtype)
            x = x.index_put(torch.where(batch.tokens == self.image_token), images)
        # (3, B, L, d / 2): each section of the frequencies turns by its own kind of position.
        angles = batch.positions[..., None] * self.frequencies
        index = self.sections.expand(1, *angles.shape[1:])
        turn = turn_by(angles.gather(0, index)[0][:, None])
        hidden = self.hidden(batch.parts)
        for layer in self.model.layers:
            x = layer(x, turn, hidden)
        return self.model.norm(x), images

    @staticmethod
    def hidden(parts: Tensor) -> Tensor:
        """What a token does not see, (L, L) or (B, 1, L, L): later ones, those of other parts."""
        length = parts.shape[1]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        if not parts.any():
            return later
        seen, seeing = parts[:, None, None, :], parts[:, None, :, None]
        return later | ((seen != 0) & (seen != seeing))

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean cross-entropies of the tokens to be learnt and of the image tokens' lessons."""
        hidden, images = self(batch)
        wanted = batch.targets != NOT_LEARNT
        logits = functional.linear(hidden[wanted], self.model.embed_tokens.weight).float()
        logits = logits.masked_fill(~batch.allowed, -torch.inf)
        loss = functional.cross_entropy(logits, batch.targets[wanted])
        return loss, self.lessons_loss(images, batch)

    def lessons_loss(self, images: Tensor, batch: Batch) -> Tensor:
        """The mean cross-entropy of the image tokens' lessons; images as from the tower."""
        if not len(images):
            return torch.zeros((), requires_grad=True)
        answers = self.lesson_heads(images).float().split(LESSONS, dim=-1)
        lessons = [
            functional.cross_entropy(answer, batch.lessons[:, index], reduction="sum")
            for index, answer in enumerate(answers)
        ]
        # Not the number of lessons: it is 0 where every token lies in several quarters.
        return torch.stack(lessons).mean() / len(images)
