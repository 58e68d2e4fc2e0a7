"""Every error that Werkmeister raises on purpose.

WerkmeisterError            exit code 1: our fault, or the machine's
├── EngineError             an engine crashed or answered something unreadable
│   └── SchemaError         a JSON schema that the engine cannot enforce
├── ParityError             the served file does not do what the trained model does
├── TrainingError           the training itself went wrong (loss not finite, no label left)
└── UserError               exit code 2: the person can mend it
    ├── SettingsError       expert.toml or --set
    ├── DataError           examples files
    ├── BaseModelError      base model absent, gated, unsupported or damaged
    ├── ArtefactError       artefact missing, incomplete, edited or of another kind
    ├── BusyError           another build of the same expert is running
    ├── ContextError        a prompt does not fit the context of the model
    └── MachineError        disk, memory, a permission or a package
StoppedByUser               exit code 130: Ctrl-C; what was done is kept
"""

from __future__ import annotations

from collections.abc import Sequence


class WerkmeisterError(Exception):
    """An error that names the thing, its value and the next step.

    `problems` lists every finding where there are several; `hint` is the next step, a command where possible.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [self.message, *(f"  - {problem}" for problem in self.problems)]
        if self.hint:
            lines.append(f"Next: {self.hint}")
        return "\n".join(lines)


class EngineError(WerkmeisterError):
    """An engine crashed, or answered something unreadable."""


class SchemaError(EngineError):
    """A JSON schema that the engine cannot enforce."""


class ParityError(WerkmeisterError):
    """The served file does not do what the trained model does."""


class TrainingError(WerkmeisterError):
    """The training went wrong: a loss that is not finite, or no label left to learn from."""


class UserError(WerkmeisterError):
    """Something that the person can mend."""

    exit_code = 2


class SettingsError(UserError):
    """expert.toml or a --set is wrong."""


class DataError(UserError):
    """An examples file is wrong."""


class BaseModelError(UserError):
    """The base model is absent, gated, unsupported or damaged."""


class ArtefactError(UserError):
    """An artefact is missing, incomplete, edited by hand, or of another kind."""


class BusyError(UserError):
    """Another build of the same expert is running."""


class ContextError(UserError):
    """A prompt does not fit the context of the model."""


class MachineError(UserError):
    """The machine lacks disk, memory, a permission or a package."""


class StoppedByUser(WerkmeisterError):
    """Ctrl-C: what was done is kept."""

    exit_code = 130
