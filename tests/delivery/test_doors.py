from __future__ import annotations

import json
import stat
import sys

import openai
import pytest

from tests.delivery.running import LOCAL, running, scripted
from werkmeister.delivery.guard import Door
from werkmeister.delivery.keys import KEYS_FILE, Keys, new_key
from werkmeister.delivery.serving import door_of, listen, serve
from werkmeister.delivery.settings import ServeSettings
from werkmeister.errors import MachineError, SettingsError
from werkmeister.governing.policy import is_loopback


@pytest.fixture
def locked(tmp_path):
    """A gateway that demands keys, with one key of "anna"."""
    key = new_key(tmp_path, "anna")
    with running(scripted(), door=Door(keys=Keys(tmp_path), keys_needed=True, hosts=())) as gateway:
        yield gateway, key, tmp_path


def test_without_a_key_nothing_but_health_is_answered(locked):
    gateway, _, _ = locked
    for method, path in [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
    ]:
        status, headers, body = gateway.send(method, path)
        assert status == 401 and headers["www-authenticate"] == "Bearer"
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert gateway.send("GET", "/health")[0] == 200


@pytest.mark.parametrize("wrong", ["", "wm-", "x" * 5000, "wm-é"])
def test_a_wrong_key_is_refused_as_the_client_expects(locked, wrong):
    gateway, _, _ = locked
    header = f"Bearer {wrong}".encode().decode("latin-1")
    assert gateway.send("GET", "/v1/models", Authorization=header)[0] == 401
    with gateway.client(key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_key_opens_until_it_is_taken_back_without_a_restart(locked):
    gateway, key, folder = locked
    with gateway.client(key=key) as client:
        assert client.models.list().data[0].id == "smith"
        (folder / KEYS_FILE).unlink()
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_a_key_is_kept_as_a_hash_in_a_file_of_its_owner_alone(tmp_path):
    key = new_key(tmp_path, "anna")
    text = (tmp_path / KEYS_FILE).read_text()
    assert key not in text and key.removeprefix("wm-") not in text and len(key) > 40
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / KEYS_FILE).stat().st_mode) == 0o600


def test_a_second_key_of_a_name_replaces_the_first_and_others_stay(tmp_path):
    old, other, new = new_key(tmp_path, "anna"), new_key(tmp_path, "ben"), new_key(tmp_path, "anna")
    keys = Keys(tmp_path)
    assert [keys.owner(key) for key in (old, other, new)] == [None, "ben", "anna"]
    assert len(keys) == 2


def test_a_broken_file_of_keys_is_named(tmp_path):
    (tmp_path / KEYS_FILE).write_text("{")
    with pytest.raises(SettingsError, match=KEYS_FILE):
        Keys(tmp_path)
    with pytest.raises(SettingsError, match="no name"):
        new_key(tmp_path, " ")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "box.example"])
def test_beyond_this_machine_it_does_not_start_without_a_key(tmp_path, host):
    with pytest.raises(SettingsError, match="no API key") as caught:
        serve(tmp_path, ServeSettings(host=host))
    assert "--new-key" in str(caught.value)
    new_key(tmp_path, "anna")
    door = door_of(tmp_path, ServeSettings(host=host))
    assert door.keys_needed and door.hosts == ()


def test_on_this_machine_keys_are_demanded_when_asked_for(tmp_path):
    assert not door_of(tmp_path, ServeSettings()).keys_needed
    with pytest.raises(SettingsError, match=r"serve\.keys"):
        door_of(tmp_path, ServeSettings(keys=True))


def test_what_is_reached_from_this_machine_alone_is_known():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "", "localhost.evil")] == [False] * 5


def test_the_usual_address_is_this_machine_alone():
    with listen(ServeSettings(port=0)) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_named():
    with listen(ServeSettings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(MachineError, match=str(port)):
            listen(ServeSettings(port=port))


def test_another_name_in_the_host_header_is_refused():
    """DNS rebinding: a site whose name points at 127.0.0.1 reaches us with its own name."""
    with running(scripted()) as gateway:
        for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::2]", "", "[", "localhost@evil"):
            assert gateway.send("GET", "/v1/models", Host=host)[0] in (400, 403), host
        for host in ("localhost", "LOCALHOST:99", "127.0.0.1", f"[::1]:{gateway.port}"):
            assert gateway.send("GET", "/v1/models", Host=host)[0] == 200, host


def test_names_that_the_settings_allow_are_let_in(tmp_path):
    door = door_of(tmp_path, ServeSettings(hosts=("Box.local",)))
    assert door.hosts == (*LOCAL, "box.local")
    with running(scripted(), door=door) as gateway:
        assert gateway.send("GET", "/v1/models", Host="box.local:80")[0] == 200


def test_pages_of_other_sites_get_nothing_and_no_cors_header():
    with running(scripted()) as gateway:
        body = {"messages": [{"role": "user", "content": "q"}]}
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            status, headers, _ = gateway.send("POST", "/v1/chat/completions", body, Origin=origin)
            assert status == 403 and not [name for name in headers if name.startswith("access-control")]
        status, headers, _ = gateway.send("OPTIONS", "/v1/chat/completions", Origin="http://evil.example")
        assert status == 403 and not [name for name in headers if name.startswith("access-control")]
        assert gateway.gateway.expert.engine.asked == [], "nothing was worked on"
        assert gateway.send("POST", "/v1/chat/completions", body, Origin=gateway.url)[0] == 200


def test_a_form_of_another_site_cannot_ask_either():
    """A browser sends text/plain across sites without asking first."""
    with running(scripted()) as gateway:
        body = json.dumps({"messages": [{"role": "user", "content": "q"}]}).encode()
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            assert gateway.send("POST", "/v1/chat/completions", body, Content_Type=kind)[0] == 415


def test_a_body_beyond_the_limit_is_refused_while_it_arrives():
    with running(scripted(), max_body=2000) as gateway:
        body = {"messages": [{"role": "user", "content": "x" * 3000}]}
        assert gateway.send("POST", "/v1/chat/completions", body)[0] == 413
        assert gateway.chat("x" * 1000)[0] == 200


def test_an_answer_beyond_the_limit_is_refused():
    with running(scripted(), max_tokens=10) as gateway:
        status, _, answer = gateway.chat("q", max_tokens=11)
        assert status == 400 and "at most 10" in answer["error"]["message"]
        assert gateway.chat("q")[0] == 200
        assert gateway.gateway.expert.engine.asked[-1][1].max_tokens == 10, "the usual length is cut to it"


def test_every_answer_says_what_browsers_must_not_do():
    with running(scripted()) as gateway:
        for path in ("/health", "/docs", "/none"):
            headers = gateway.send("GET", path)[1]
            assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
            assert "default-src 'none'" in headers["content-security-policy"] and "server" not in headers
