"""Writes the tables of docs/flags.md from the settings that enforce them.

python -m scripts.flag_tables
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gateway.settings import Settings as GatewaySettings
from shared.settings import markdown_table
from worker.settings import Settings as WorkerSettings

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "flags.md"
TABLES = {
    "gateway": markdown_table(GatewaySettings, "GATEWAY"),
    "worker": markdown_table(WorkerSettings, "WORKER"),
}


def with_tables(text: str) -> str:
    """Return `text` with everything between each pair of markers replaced by its table."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} flags -->", f"<!-- end of {name} flags -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        found = pattern.findall(text)
        assert len(found) == 1, f"the markers of the {name} table are missing"
        text = text.replace(found[0], f"{begin}\n{table}\n{end}")
    return text


def main() -> int:
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
