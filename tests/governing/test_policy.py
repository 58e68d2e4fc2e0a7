"""What the policy lets out of this machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.config import read_settings
from werkmeister.errors import SettingsError
from werkmeister.governing.policy import PolicySettings, require_allowed

NOTHING = PolicySettings()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1",
        "http://127.8.9.1/v1",
        "http://localhost:11434/v1",
        "http://LOCALHOST/v1",
        "http://[::1]:8000/v1",
        "https://localhost/v1",
    ],
)
def test_this_machine_is_always_allowed(url):
    assert require_allowed(url, NOTHING)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1",
        "http://192.168.1.20:8000/v1",
        "http://0.0.0.0/v1",
        "http://[2001:db8::1]/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://127.1/v1",
        "http://2130706433/v1",
        "http://0x7f000001/v1",
    ],
)
def test_by_default_nothing_else_is_allowed(url):
    with pytest.raises(SettingsError, match=r"\[policy\] allow"):
        require_allowed(url, NOTHING)


def test_the_error_names_setting_host_and_what_would_be_sent():
    with pytest.raises(SettingsError) as caught:
        require_allowed("https://api.example.com/v1", PolicySettings(allow=("a.example",)), sent="12 manuals")
    text = str(caught.value)
    for part in ("api.example.com", "12 manuals", "a.example", 'allow = ["api.example.com"]'):
        assert part in text


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1@evil.example/v1",
        "https://user:pass@api.example.com/v1",
        "http://127.0.0.1\\@evil.example/v1",
        "http://127.0.0.1 .evil.example/v1",
        "http://127.0.0.1\t/v1",
        "http://127.0.0.1:port/v1",
        "http://127.0.0.1:0/v1",
        "http://[::1/v1",
        "ftp://localhost/v1",
        "file:///etc/passwd",
        "localhost:8080/v1",
        "http:///v1",
        "http://localhost/v1?key=1",
        "",
    ],
)
def test_what_one_program_reads_otherwise_than_another_is_no_url(url):
    with pytest.raises(SettingsError, match="no plain URL") as caught:
        require_allowed(url, PolicySettings(allow=("evil.example", "api.example.com")))
    assert "pass@" not in str(caught.value)


def test_allowed_hosts_are_compared_whole_without_case_and_with_their_port():
    policy = PolicySettings(allow=("API.example.com", "gpu.local:8000", "[2001:db8::1]", "münchen.example"))
    for url in (
        "https://api.EXAMPLE.com/v1",
        "http://api.example.com.:99/v1",
        "http://gpu.local:8000/v1",
        "http://[2001:0db8:0::1]:8000/v1",
        "https://xn--mnchen-3ya.example/v1",
    ):
        require_allowed(url, policy)
    for url in ("https://example.com", "https://x.api.example.com", "http://gpu.local/v1", "https://gpu.local:8001"):
        with pytest.raises(SettingsError):
            require_allowed(url, policy)


def test_a_port_that_the_scheme_implies_counts():
    require_allowed("https://gpu.local/v1", PolicySettings(allow=("gpu.local:443",)))
    with pytest.raises(SettingsError):
        require_allowed("http://gpu.local/v1", PolicySettings(allow=("gpu.local:443",)))


@pytest.mark.parametrize("entry", ["https://api.example.com", "*", "*.example.com", "api.example.com/v1", "a b", ""])
def test_an_entry_that_is_no_host_is_told_when_the_settings_are_read(tmp_path, entry):
    (tmp_path / "expert.toml").write_text(f'[policy]\nallow = ["{entry}"]\n')
    with pytest.raises(SettingsError, match="is no host"):
        read_settings(tmp_path, {"policy": PolicySettings})


@given(host=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True))
def test_no_name_but_localhost_and_loopback_addresses_pass_by_default(host):
    own = host == "localhost" or (host.startswith("127.") and host.count(".") == 3)
    if not own:
        with pytest.raises(SettingsError):
            require_allowed(f"http://{host}/v1", NOTHING)
