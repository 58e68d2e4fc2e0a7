"""The browser bundle as files: what is in it, and what it refuses. What it does in a browser: test_browser_live.py."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest

from werkmeister.consulting.expert import AskSettings
from werkmeister.delivery.browser import browser_bundle
from werkmeister.delivery.browser_page import PAGE_HEADERS, POLICY, page_content, page_file, page_names
from werkmeister.errors import ArtefactError, DataError, MachineError

GOLDEN = '{"messages": [{"role": "user", "content": "a"}], "answer": "b"}\n'


@pytest.fixture(scope="module")
def bundle(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "web"
    golden = folder.parent / "golden.jsonl"
    golden.write_text(GOLDEN, encoding="utf-8")
    return browser_bundle(built, folder, expected=golden)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def worker(folder):
    return json.loads(re.match(r"const SHELL = (.*?);\n//", (folder / "sw.js").read_text("utf-8"), re.S)[1])


def test_the_model_in_the_bundle_is_the_exported_file_and_the_page_is_told_how_it_answers(bundle, built):
    export = read(built / "artefacts/export/manifest.json")
    about = read(bundle.path / "expert.json")
    (file,) = about["model"]["files"]
    assert file["sha256"] == export["outputs"]["model-Q8_0.gguf"]["sha256"]
    assert hashlib.sha256((bundle.path / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    assert about["identity"] == export["identity"]
    assert about["system"] == export["facts"]["system"]
    assert about["sampling"]["stop"] == export["facts"]["stop"]
    assert about["context_length"] == export["facts"]["context_length"]
    assert (bundle.path / about["expected"]).read_text("utf-8") == GOLDEN


def test_the_asking_table_and_another_quantisation_are_heard(built, tmp_path):
    (tmp_path / "answer.schema.json").write_text('{"type": "object"}', encoding="utf-8")
    shutil.copytree(built / "artefacts/export", tmp_path / "artefacts/export")
    settings = AskSettings(max_tokens=7, temperature=0.5, context_length=64, schema="answer.schema.json")
    made = browser_bundle(tmp_path, tmp_path / "web", settings=settings, file="Q4_K_M")
    about = read(made.path / "expert.json")
    assert about["model"]["name"] == made.model == "model-Q4_K_M.gguf"
    assert about["context_length"] == 64
    told = about["sampling"]
    assert (told["max_tokens"], told["temperature"], told["schema"]) == (7, 0.5, {"type": "object"})
    assert about["expected"] == "expected.jsonl"
    recorded = built / "artefacts/export/model-Q4_K_M.expected.jsonl"
    assert (made.path / "expected.jsonl").read_bytes() == recorded.read_bytes()


def test_bundle_json_holds_the_hash_of_every_other_file(bundle):
    told = read(bundle.path / "bundle.json")["outputs"]
    there = {p.relative_to(bundle.path).as_posix(): p for p in bundle.path.rglob("*") if p.is_file()}
    assert set(told) == set(there) - {"bundle.json"}
    for name, said in told.items():
        assert hashlib.sha256(there[name].read_bytes()).hexdigest() == said["sha256"], name
    assert sum(bundle.files.values()) == sum(path.stat().st_size for path in there.values())


def test_the_result_says_where_it_is_how_large_and_how_to_try_it(bundle):
    record = bundle.record()
    assert record["bytes"] == sum(record["files"].values())
    assert json.loads(json.dumps(record)) == record
    told = bundle.words()
    assert f"--directory {bundle.path}" in told
    assert "model-Q8_0.gguf" in told


def test_the_service_worker_keeps_all_but_the_model_and_its_version_follows_what_it_keeps(bundle, built, tmp_path):
    shell = worker(bundle.path)
    told = read(bundle.path / "bundle.json")["outputs"]
    assert set(shell["files"]) == {name for name in told if not name.startswith("model/")} - {"sw.js"}
    assert POLICY in shell["policy"]
    same = browser_bundle(built, tmp_path / "same", expected=bundle.path / "expected.jsonl")
    other = browser_bundle(built, tmp_path / "other", settings=AskSettings(max_tokens=7))
    assert worker(same.path) == shell
    assert worker(other.path)["version"] != shell["version"]


def test_the_page_is_an_installable_app_under_a_policy_that_names_no_host(bundle):
    page = (bundle.path / "index.html").read_text("utf-8")
    assert '<link rel="manifest" href="manifest.webmanifest">' in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1].replace("&#x27;", "'")
    assert policy == POLICY
    sources = {word for part in policy.split(";") for word in part.split()[1:]}
    assert sources == {"'none'", "'self'", "'wasm-unsafe-eval'", "data:", "blob:"}
    app = read(bundle.path / "manifest.webmanifest")
    for icon in app["icons"]:
        head = (bundle.path / icon["src"]).read_bytes()[:24]
        size = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
        assert f"{size[0]}x{size[1]}" == icon["sizes"]


def test_what_the_bundle_carries_of_others_is_the_pinned_release_with_its_licence(bundle):
    pinned = read(bundle.path / "vendor/wllama.json")
    for name, digest in pinned["sha256"].items():
        assert hashlib.sha256((bundle.path / "vendor" / name).read_bytes()).hexdigest() == digest
    licences = (bundle.path / "LICENSES.txt").read_text("utf-8")
    assert f"@wllama/wllama {pinned['version']}" in licences
    assert "Permission is hereby granted, free of charge" in licences
    assert "The ggml authors" in licences


def test_an_own_bundle_is_replaced_and_anything_else_is_left_alone(built, tmp_path):
    target = tmp_path / "web"
    browser_bundle(built, target)
    (target / "stray.txt").write_text("x")
    browser_bundle(built, target)
    assert not (target / "stray.txt").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.jpg").write_bytes(b"x")
    with pytest.raises(ArtefactError, match="is there and is no bundle"):
        browser_bundle(built, tmp_path / "photos")
    assert (tmp_path / "photos/holiday.jpg").read_bytes() == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "web"]


def test_a_bundle_that_fails_half_way_leaves_the_old_one(built, tmp_path, monkeypatch):
    made = browser_bundle(built, tmp_path / "web")
    before = (made.path / "bundle.json").read_bytes()

    def full(*_):
        raise MachineError("the disk is full")

    monkeypatch.setattr("werkmeister.delivery.bundle.need_disk", full)
    with pytest.raises(MachineError):
        browser_bundle(built, made.path)
    assert (made.path / "bundle.json").read_bytes() == before


def test_odd_line_ends_in_golden_prompts_are_no_ends_of_lines(built, tmp_path):
    file = tmp_path / "golden.jsonl"
    file.write_text(GOLDEN.replace('"b"', '"b\u2028c\x85d"'), encoding="utf-8")
    made = browser_bundle(built, tmp_path / "web", expected=file)
    assert (made.path / "expected.jsonl").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "line",
    ["{", '{"answer": "b"}', '{"messages": [], "answer": "b"}', '{"messages": [{"role": "user"}], "answer": ""}'],
)
def test_a_line_that_is_no_golden_prompt_is_named(built, tmp_path, line):
    file = tmp_path / "golden.jsonl"
    file.write_text(GOLDEN + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"golden\.jsonl:2"):
        browser_bundle(built, tmp_path / "web", expected=file)


def test_an_expert_that_was_never_built_is_named_with_the_command(tmp_path):
    with pytest.raises(ArtefactError) as caught:
        browser_bundle(tmp_path, tmp_path / "web")
    assert "werkmeister build" in caught.value.hint


def test_the_gateway_gets_the_page_without_what_only_a_bundle_needs():
    media, content = page_file("")
    assert media.startswith("text/html")
    assert b"POLICY" not in content
    assert b"manifest.webmanifest" not in content
    assert page_file("app/main.js")[0].startswith("text/javascript")
    for name in ("sw.js", "vendor/wllama.wasm", "../browser.py", "nothing", "app"):
        assert page_file(name) is None
    assert "frame-ancestors 'none'" in PAGE_HEADERS["Content-Security-Policy"]


def test_no_module_of_the_page_writes_markup_or_asks_another_host():
    for name in page_names():
        if not name.endswith((".js", ".html", ".css")) or name.startswith("vendor/"):
            continue
        text = page_content(name).decode("utf-8")
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|setHTMLUnsafe", text
        )
        assert not found, (name, found)
        assert not re.search(r"(?:src|href|import|fetch)\W{1,3}https?://", text), name


def test_the_modules_of_the_page_do_what_they_say(request):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js on this machine")
    tests = request.config.rootpath / "web" / "tests" / "modules.test.mjs"
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_lock_file_names_the_release_that_is_carried_and_no_registry(request):
    lock = (request.config.rootpath / "web" / "package-lock.json").read_text("utf-8")
    locked = json.loads(lock)["packages"]["node_modules/@wllama/wllama"]
    carried = json.loads(page_content("vendor/wllama.json"))
    assert (locked["version"], locked["license"]) == (carried["version"], carried["licence"])
    assert "http" not in lock


def test_what_npm_installs_is_what_is_carried(request):
    installed = request.config.rootpath / "web" / "node_modules" / "@wllama" / "wllama" / "esm"
    if not installed.is_dir():
        pytest.skip("web/node_modules is not there: npm ci in web/ brings it")
    for name, file in (("wllama.js", "index.min.js"), ("wllama.wasm", "wasm/wllama.wasm")):
        assert (installed / file).read_bytes() == page_content(f"vendor/{name}")
