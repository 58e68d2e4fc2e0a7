"""Passages to write about, and engines that play a teacher."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from werkmeister.chat import Conversation
from werkmeister.corpus.documents.document import Document
from werkmeister.engines.engine import Engine
from werkmeister.engines.open import FoundEngine
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.passage import Passage

FORMS = 2


def passage(text: str, *, document: str = "pump.md", start: int = 0, language: str = "en", tokens: int = 0) -> Passage:
    name = hashlib.sha256(f"{document} {text}".encode()).hexdigest()[:16]
    return Passage(
        id=name,
        document=document,
        title="Pump P7" if document == "pump.md" else f"Pump of {document}",
        headings=("Care",),
        text=text,
        start=start,
        end=start + len(text),
        tokens=tokens or len(text) // 4,
        language=language,
    )


def document(passages: Sequence[Passage], *, name: str = "pump.md") -> Document:
    text = " ".join(one.text for one in passages)
    return Document(name=name, sha256="0" * 64, format="md", title="Pump P7", text=text, blocks=())


def manual(count: int, *, document: str = "pump.md") -> list[Passage]:
    """Passages that each say one thing that no other says."""
    passages = []
    start = 0
    for number in range(count):
        # A blank at the end parts it from the next one, and is no part of the passage.
        text = f"Valve {number} of the pump must be opened every {number + 3} days, and closed before the night. "
        passages.append(passage(text.strip(), document=document, start=start))
        start += len(text)
    return passages


def good(conversation: Conversation) -> str:
    """What a good teacher says about a passage of `manual`."""
    number, days = re.findall(r"Valve (\d+) of the pump must be opened every (\d+) days", conversation[-1].content)[0]
    fact = {
        "evidence": f"Valve {number} of the pump must be opened every {days} days",
        "questions": [f"How often must valve {number} be opened?", f"When is valve {number} of the pump to be opened?"],
        "answer": f"Every {days} days.",
    }
    return json.dumps({"pairs": [fact]})


def rubbish(conversation: Conversation) -> str:
    """What a bad teacher says about everything."""
    return "I am happy to help you with that!"


def engine(script: Callable[[Conversation], str], **more: Any) -> ScriptedEngine:
    return ScriptedEngine(script, name="teacher-fake", **more)


def found(one: Engine, *, concurrency: int = 1, identity: str = "fake 1") -> FoundEngine:
    def opened() -> Engine:
        if isinstance(one, ScriptedEngine):
            one.closed = False
        return one

    return FoundEngine(
        name="teacher-fake",
        identity=identity,
        remote=False,
        concurrency=concurrency,
        facts={"name": "teacher-fake", "model": "fake", "licence": "none", "where": "this machine"},
        open=opened,
    )


def never() -> FoundEngine:
    """An engine that must not be opened: everything is remembered."""

    def opened() -> Engine:
        raise AssertionError("the engine was opened")

    return FoundEngine(name="teacher-fake", identity="fake 1", remote=False, concurrency=1, facts={}, open=opened)


class Crowd:
    """A script that counts how many ask at the same time."""

    def __init__(self, script: Callable[[Conversation], str], seconds: float) -> None:
        self._script, self._seconds = script, seconds
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, conversation: Conversation) -> str:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        return self._script(conversation)
