"""Whether what the operator's list is read from has changed."""

from __future__ import annotations

from collections.abc import Iterable

from shared.model_path import expanded
from worker.host.catalogue import Model, Stamp, stamp_of
from worker.settings import Settings

LOOK_EVERY_S = 1.0

Seen = tuple[object, dict[str, Stamp | None]]
"""Of the file and the folder of models; and of each model's own."""


class CatalogueWatch:
    """Looks at the file, the folder, and each model's own, from the start of its life on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._followed: dict[str, Stamp | None] = {}
        self._read = self._seen = self._look()
        self._looked_at = 0.0

    def follow(self, models: Iterable[Model]) -> None:
        """The list has been read, and these are on it."""
        self._followed = {model.path: model.stamp for model in models if not model.kept}
        if self._read is not None:
            self._read = (self._read[0], self._followed)

    def has_news(self, now: float) -> bool:
        """Whether it is to be read again: it is another one, and the same as a look ago. A file
        that is being written is empty before, and half there."""
        if now - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = now
        before, self._seen = self._seen, self._look()
        if self._seen in (self._read, None) or self._seen != before:
            return False
        self._read = self._seen
        return True

    def _look(self) -> Seen | None:
        """What differs when the list may; None: it is not there at this moment."""
        file = expanded(self._settings.models)
        folder = expanded(self._settings.models_dir)
        try:
            told = file.stat() if self._settings.models else None
            inside = sorted(folder.iterdir()) if self._settings.models_dir else []
        except OSError:
            return None
        # A folder's own time changes with every file that comes into it.
        changes = [(one.name, stamp_of(str(one))) for one in inside]
        # A folder that is gone may be about to be another one; who has it in memory needs it not.
        models = {path: stamp_of(path) or was for path, was in self._followed.items()}
        return ((told and (told.st_mtime_ns, told.st_size, told.st_ino)), changes), models
