"""Models from the Hugging Face hub: only the files that training needs, and errors that say what to do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.bases.shape import INDEX, SINGLE
from werkmeister.bases.vocabulary import TEMPLATE_FILES, TOKENIZER_FILES
from werkmeister.errors import BaseModelError
from werkmeister.machine import need_disk
from werkmeister.progress import Progress, Track

_SMALL_FILES = ("config.json", "generation_config.json", *TOKENIZER_FILES, *TEMPLATE_FILES)
_TIMEOUT = 10.0


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A snapshot folder, the commit it holds, and the licence its card names."""

    folder: Path
    revision: str
    licence: str
