"""The process that reads documents: one file a request, so that a file which crashes or hangs it costs itself alone.

Run as `python -m werkmeister.corpus.documents.worker`. A request is one line of JSON {"path", "name"}; the answer is
one line of JSON, {"document": …} or {"reason": …}; before the first request it says {"ready": true}. What libraries
print goes to standard error, which the parent keeps for the reason of a crash.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

from werkmeister.corpus.documents.kinds import UnreadableError

_MEMORY = 6 << 30


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Say that the worker is ready, and answer requests until there are none."""
    answers.write(b'{"ready": true}\n')
    answers.flush()
    for line in requests:
        asked = json.loads(line)
        answers.write(json.dumps(answer(Path(asked["path"]), asked["name"])).encode() + b"\n")
        answers.flush()


def answer(path: Path, name: str) -> dict[str, Any]:
    """What was read from one file, as JSON: {"document": …}, or {"reason": …} where it gave no text."""
    from werkmeister.corpus.documents.reading import read_bytes, record_of

    try:
        document = read_bytes(path.read_bytes(), name)
    except UnreadableError as error:
        return {"reason": str(error)}
    except OSError as error:
        return {"reason": f"cannot be opened ({error.strerror or error}): check that it exists and may be read"}
    except MemoryError:
        return {"reason": "needs more memory than this machine gives: split it into parts"}
    except RecursionError:
        return {"reason": "is nested too deeply to be read: convert it to PDF or text"}
    return {"document": record_of(document)}


def main() -> None:
    """Serve on the standard streams, with all that libraries print led to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.platform != "win32":
        import resource

        # A file that unpacks without end must not take the machine with it.
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, hard))
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
