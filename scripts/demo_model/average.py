"""The mean of the weights of several stages of one training run, which errs less than each.

python -m scripts.demo_model.average stage-1 stage-2 --output worker/demo_model
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def average(folders: list[Path], output: Path) -> None:
    """Write the mean of the checkpoints' `model.safetensors`, in their type, to `output`."""
    stages = [load_file(folder / "model.safetensors") for folder in folders]
    mean = {
        name: torch.stack([stage[name].float() for stage in stages]).mean(0).to(first.dtype)
        for name, first in stages[0].items()
    }
    save_file(mean, output / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage", nargs="+", type=Path, help="a checkpoint's folder")
    parser.add_argument("--output", type=Path, required=True, help="where the mean is written")
    options = parser.parse_args()
    average(options.stage, options.output)


if __name__ == "__main__":
    main()
