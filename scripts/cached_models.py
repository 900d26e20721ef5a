"""What the hub's cache on this machine holds already: `models list --cached`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class CachedModel:
    """
    Attributes:
        name: the hub id.
        bytes: of its files, all revisions together.
        whole: whether all its weights are here.
    """

    name: str
    bytes: int
    whole: bool


def cached_models() -> Iterator[CachedModel]:
    """All that hold weights a worker loads, by name. `HF_HOME` says where the cache is."""
    try:
        found = scan_cache_dir()
    except CacheNotFound:
        return
    for repo in sorted(found.repos, key=lambda repo: repo.repo_id):
        folders = [revision.snapshot_path for revision in repo.revisions]
        loadable = [folder for folder in folders if (folder / "config.json").is_file()]
        if repo.repo_type == "model" and loadable:
            whole = any(map(_is_whole, loadable))
            yield CachedModel(repo.repo_id, repo.size_on_disk, whole)


def _is_whole(folder: Path) -> bool:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return all((folder / file).is_file() for file in index["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return any(folder.glob("*.safetensors"))
