"""Whether what the operator's list is read from has changed."""

from __future__ import annotations

from pathlib import Path

from worker.settings import Settings

LOOK_EVERY_S = 1.0


class CatalogueWatch:
    """Looks at the file and the folder, from the start of its life on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read = self._seen = self._look()
        self._looked_at = 0.0

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

    def _look(self) -> object:
        """What differs when the list may; None: it is not there at this moment."""
        file = Path(self._settings.models).expanduser()
        folder = Path(self._settings.models_dir).expanduser()
        try:
            told = file.stat() if self._settings.models else None
            inside = sorted(folder.iterdir()) if self._settings.models_dir else []
            # A folder's own time changes with every file that comes into it.
            changes = [(one.name, one.stat().st_mtime_ns if one.exists() else 0) for one in inside]
        except OSError:
            return None
        return (told and (told.st_mtime_ns, told.st_size, told.st_ino)), changes
