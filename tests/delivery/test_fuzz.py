"""The OpenAPI document put to the test by schemathesis: every route holds what the document says of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.delivery.running import running, scripted


class Lengths:
    name = "lengths"

    def embed(self, texts):
        return [[float(len(text))] for text in texts]


@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.slow
def test_every_route_holds_what_its_document_says(tmp_path):
    with running(scripted(), embedder=Lengths()) as gateway:
        command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
        # Left out: that all data which fit the schema are accepted. Some rules stand between two keys, and the longest
        # answer depends on the expert; both are answered with 400, which the document names.
        options = ["--phases", "coverage,fuzzing", "--exclude-checks", "positive_data_acceptance", "-n", "40"]
        document = f"{gateway.url}/openapi.json"
        done = subprocess.run(
            [*command, "run", document, *options, "--no-color", "--no-shrink"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
