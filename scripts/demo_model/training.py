"""The training loop: AdamW, a warm-up, a long plateau and a linear descent to nothing."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from scripts.demo_model.batches import Batches, batch_loader
from scripts.demo_model.checkpoint import CHECKPOINT, read_config
from scripts.demo_model.export import export
from scripts.demo_model.network import Batch, DemoModel, Sizes
from scripts.demo_model.tokenizer import train_tokenizer

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 100
LESSONS_WEIGHT = 2.0  # of the image tokens' lessons, next to the answers
DESCENT = 0.4  # of all steps
STATE_NAME = "state.pt"


@dataclass(frozen=True)
class Plan:
    """What to train, and where to keep it."""

    work_dir: Path
    output: Path
    steps: int
    vision_steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    seed: int = 1
    workers: int = 1
    uses: float = 2.0
    save_every: int = 500
    bfloat16: bool = True
    fine_tune: bool = False


def sizes(config: dict[str, Any]) -> Sizes:
    """What a checkpoint's `config.json` says of the network."""
    vision = config["vision_config"]
    return Sizes(
        vision_width=vision["embed_dim"],
        vision_layers=vision["depth"],
        vision_heads=vision["num_heads"],
        vision_mlp_ratio=vision["mlp_ratio"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        mlp_width=config["intermediate_size"],
        rope_theta=config["rope_theta"],
        rope_sections=tuple(config["rope_scaling"]["mrope_section"]),
        norm_eps=config["rms_norm_eps"],
    )


def rate_at(step: int, plan: Plan) -> float:
    """The learning rate at a step."""
    descent = (plan.steps - step) / (DESCENT * plan.steps)
    return plan.learning_rate * max(0.0, min(1.0, (step + 1) / WARM_UP_STEPS, descent))


def make_optimizer(model: DemoModel, plan: Plan) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)


def load_tokenizer(plan: Plan) -> PreTrainedTokenizerFast:
    """The run's tokenizer, trained when the run is new."""
    folder = plan.work_dir / "tokenizer"
    if plan.fine_tune:
        return PreTrainedTokenizerFast.from_pretrained(CHECKPOINT)
    if folder.exists():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer = train_tokenizer(plan.seed)
    tokenizer.save_pretrained(folder)
    return tokenizer


def train(plan: Plan) -> None:
    """Train up to `plan.steps` steps, going on from the state in `plan.work_dir` if there is one,
    and write the checkpoint to `plan.output` at every save."""
    torch.manual_seed(plan.seed)
    tokenizer = load_tokenizer(plan)
    model = DemoModel(sizes(read_config("config.json")))
    if plan.fine_tune:
        model.load_state_dict(load_file(CHECKPOINT / "model.safetensors"), strict=False)
        model.visual.requires_grad_(False)
    optimizer = make_optimizer(model, plan)
    state_path = plan.work_dir / STATE_NAME
    step = 0
    if state_path.exists():
        state = torch.load(state_path)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    count = sum(weight.numel() for weight in model.parameters())
    logger.info("%.2f M parameters, starting at step %d of %d", count / 1e6, step, plan.steps)
    # A resumed run sees new data: its stream starts from the seed and the step.
    dataset = Batches(tokenizer, plan.batch_size, plan.seed * 1_000_003 + step, plan.uses)
    batches = iter(batch_loader(dataset, plan.workers))
    vision_steps = 0 if plan.fine_tune else plan.vision_steps
    lessons_weight = 0.0 if plan.fine_tune else LESSONS_WEIGHT
    totals, since, begun = torch.zeros(2), 0, time.monotonic()
    while step < plan.steps:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, plan)
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
            loss, lessons = losses(model, next(batches), vision_only=step < vision_steps)
        optimizer.zero_grad()
        (loss + lessons_weight * lessons).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, since = step + 1, since + 1
        totals += torch.stack((loss, lessons)).detach()
        if step % 50 == 0:
            pace = (time.monotonic() - begun) / since
            means = (totals / since).tolist()
            logger.info("step %d: loss %.4f, lessons %.4f, %.3f s a step", step, *means, pace)
            totals, since, begun = torch.zeros(2), 0, time.monotonic()
        if step % plan.save_every == 0 or step == plan.steps:
            save(model, optimizer, step, state_path)
            export(model, tokenizer, plan.output)


def losses(model: DemoModel, batch: Batch, vision_only: bool) -> tuple[Tensor, Tensor]:
    """The losses of the answers (none if `vision_only`) and of the image tokens' lessons."""
    if not vision_only:
        return model.losses(batch)
    images = model.visual(batch) if len(batch.pixels) else torch.zeros(0)
    return torch.zeros(()), model.lessons_loss(images, batch)


def save(model: DemoModel, optimizer: torch.optim.AdamW, step: int, path: Path) -> None:
    """Write the run's state; a state half written never replaces a whole one."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
