"""What `werkmeister verify` does: a bundle checked on the machine where it is to run."""

from __future__ import annotations

import sys
from pathlib import Path


def verify(bundle: Path, base: Path | None, python: Path | None, *, as_json: bool) -> None:
    """Check a bundle and print what was found.

    Raises ParityError (exit code 1) when a golden answer is another, ArtefactError (2) when the bundle is not what was
    exported. As JSON the differences stand in the one object on stdout, and only the exit code tells of them beside.
    """
    from werkmeister.console import live, show_json
    from werkmeister.delivery.verification import verify_bundle

    found = verify_bundle(bundle, base=base, python=python, progress=live())
    problem = found.problem()
    if as_json:
        show_json(found.record())
        sys.exit(problem.exit_code if problem else 0)
    print(found.words())
    if problem:
        raise problem
