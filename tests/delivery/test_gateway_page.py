"""The chat page on a real gateway: its files, who may have them, and that nothing else of the disk is reached."""

from __future__ import annotations

import json
import posixpath
import re

import pytest

from tests.delivery.running import expert, running, scripted
from werkmeister.delivery.browser_page import PAGE_HEADERS, page_file
from werkmeister.delivery.guard import Door
from werkmeister.delivery.keys import Keys, new_key
from werkmeister.engines.scripted import ScriptedEngine

OPEN_PATHS = ("/", "/index.html", "/expert.json", "/app/main.js", "/app/page.css", "/icons/icon.svg")
OUTSIDE = (
    *("/guard.py", "/../guard.py", "/app/../../guard.py", "/..%2fguard.py", "/app/%2e%2e/%2e%2e/guard.py"),
    *("/app/..%5c..%5cguard.py", "/etc/passwd", "//etc/passwd", "/%2fetc%2fpasswd", "/app/main.js%00", "/app/", "/app"),
    *("/docs.html", "/browser_licences.txt", "/sw.js", "/vendor/wllama.js", "/APP/main.js", "/.keys", "//"),
)
LINK = re.compile(r"""(?:src|href)="([^"#][^"]*)"|from '([^']+)'|import\('([^']+)'\)""")


@pytest.fixture(scope="module")
def gateway():
    with running(scripted()) as opened:
        yield opened


@pytest.fixture
def locked(tmp_path):
    new_key(tmp_path, "anna")
    with running(scripted(), door=Door(keys=Keys(tmp_path), keys_needed=True, hosts=())) as opened:
        yield opened


def test_the_page_and_all_that_it_loads_are_there_with_the_headers_of_the_page(gateway):
    waiting, seen = ["/"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        status, headers, body = gateway.send("GET", path)
        assert (status, headers["content-type"], body) == (200, *page_file(path[1:])), path
        assert {name: headers[name.lower()] for name in PAGE_HEADERS} == PAGE_HEADERS
        if path == "/" or path.endswith(".js"):
            named = {next(filter(None, found)) for found in LINK.findall(body.decode())}
            wanted = {posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) for name in named}
            # The engine that runs in a browser, and what makes an app of a bundle, the gateway does not have.
            waiting += sorted(found for found in wanted - seen if not found.startswith(("/vendor/", "/LICENSES.txt")))
    assert {"/app/main.js", "/app/gateway.js", "/app/page.css", "/icons/icon.svg"} <= seen


def test_the_page_is_told_the_expert_and_that_the_gateway_is_its_engine(gateway):
    status, headers, body = gateway.send("GET", "/expert.json")
    assert status == 200 and headers["content-type"] == "application/json"
    assert json.loads(body) == {"engine": "gateway", "name": "smith", "identity": "abc123", "key": False}


def test_the_page_stands_without_a_key_and_knows_that_one_is_needed(locked):
    for path in OPEN_PATHS:
        assert locked.send("GET", path)[0] == 200, path
        assert locked.send("GET", path, Authorization="Bearer wrong")[0] == 200, path
    assert json.loads(locked.send("GET", "/expert.json")[2])["key"] is True


def test_the_open_page_opens_nothing_else(locked):
    for path in ("/v1/models", "/metrics", "/docs", "/openapi.json", "/app/none.js", *OUTSIDE):
        assert locked.send("GET", path)[0] == 401, path
    body = {"messages": [{"role": "user", "content": "q"}]}
    for host in ("x", "x/health?", "x/app/main.js?", "x/health#", "x?/"):
        assert locked.send("POST", "/v1/chat/completions", body, Host=host)[0] in (400, 401), host
    assert locked.gateway.expert.engine.asked == []


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_a_site_that_points_its_name_here_does_not_get_the_page(gateway, path):
    """DNS rebinding: from a page of ours under its own name it could ask on."""
    assert gateway.send("GET", path, Host="evil.example:8000")[0] == 403
    assert gateway.send("GET", path, Origin="http://evil.example")[0] == 403
    assert gateway.send("GET", path, Origin=gateway.url)[0] == 200


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_page(gateway, path):
    status, headers, body = gateway.send("GET", path)
    assert status == 404 and headers["content-type"] == "application/json"
    assert json.loads(body)["error"]["code"] == "not_found"


def test_the_routes_of_the_api_are_as_without_a_page(gateway):
    assert json.loads(gateway.send("GET", "/v1/models")[2])["data"][0]["id"] == "smith"
    assert b"/v1/chat/completions" in gateway.send("GET", "/docs")[2]
    assert json.loads(gateway.send("GET", "/openapi.json")[2])["openapi"]
    for method, path, status, code in (
        ("GET", "/v1/none", 404, "not_found"),
        ("POST", "/none", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/", 405, "method_not_allowed"),
        ("DELETE", "/app/main.js", 405, "method_not_allowed"),
    ):
        found, _, body = gateway.send(method, path)
        assert (found, json.loads(body)["error"]["code"]) == (status, code), (method, path)


def test_a_file_can_be_asked_for_its_headers_alone(gateway):
    status, headers, body = gateway.send("HEAD", "/")
    assert (status, body) == (200, b"") and int(headers["content-length"]) == len(page_file("")[1])


def test_the_name_of_an_expert_cannot_become_markup_of_the_page():
    name = "</script><b>smith</b>"
    with running(expert(ScriptedEngine({}), name=name)) as gateway:
        assert json.loads(gateway.send("GET", "/expert.json")[2])["name"] == name
        assert b"smith" not in gateway.send("GET", "/")[2]
