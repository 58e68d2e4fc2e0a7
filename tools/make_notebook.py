"""Write notebooks/*.ipynb from the readable source beside it; --check only says whether they are up to date.

The source is Markdown: each ```python block becomes a code cell, the text between two of them a text cell. A block that
begins with "# parameters" gets the tag that tools such as papermill look for. A notebook holds no outputs.
"""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "notebooks"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def notebook(source: str) -> dict[str, Any]:
    """The notebook of a source, as nbformat 4.5 has it."""
    cells = []
    for number, part in enumerate(_BLOCK.split(source)):
        text = part.strip("\n")
        if not text.strip():
            continue
        cell: dict[str, Any] = {
            "cell_type": "code" if number % 2 else "markdown",
            "id": hashlib.sha256(f"{len(cells)} {text}".encode()).hexdigest()[:8],
            "metadata": {"tags": ["parameters"]} if number % 2 and text.startswith("# parameters") else {},
            "source": text.splitlines(keepends=True),
        }
        if number % 2:
            cell |= {"execution_count": None, "outputs": []}
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}, "kernelspec": kernel}
    about["language_info"] = {"name": "python"}
    return {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def main() -> int:
    """Write or compare; 1 when a notebook is out of date."""
    stale = []
    for source in sorted(FOLDER.glob("*.md")):
        target = source.with_suffix(".ipynb")
        text = json.dumps(notebook(source.read_text(encoding="utf-8")), ensure_ascii=False, indent=1) + "\n"
        if "--check" not in sys.argv:
            target.write_text(text, encoding="utf-8", newline="\n")
        elif not target.is_file() or target.read_text(encoding="utf-8") != text:
            stale.append(target.name)
    if stale:
        print(f"out of date: {', '.join(stale)}; run: python tools/make_notebook.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
