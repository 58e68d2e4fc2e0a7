"""The chat page's files, as the gateway serves them and a browser bundle carries them."""

from __future__ import annotations

import gzip
import html
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)
"""The page's Content-Security-Policy: nothing of another host is loaded or asked, and no text becomes a script.

WebAssembly is compiled, and its workers are started from blobs; both stay below the same policy."""
PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""What a server sends with each file of the page."""
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
_PACKED = ".gz"
_BUNDLE_ONLY = ("sw.js", "vendor/")


def page_file(path: str) -> tuple[str, bytes] | None:
    """Media type and content of a file that the page of a gateway needs; "" is the page itself, None is no such file.

    What a bundle alone needs (the model's engine, the service worker) is not among them.
    """
    name = path or "index.html"
    if name not in _names() or name.startswith(_BUNDLE_ONLY):
        return None
    media = _MEDIA["." + name.rpartition(".")[2]]
    return media, index_page("Werkmeister") if name == "index.html" else page_content(name)


def page_names() -> list[str]:
    """Every file of the page by its path, in order, as a bundle holds them."""
    return sorted(_names())


def page_content(name: str) -> bytes:
    """One file as it stands in the package; packed ones are unpacked."""
    file = _names()[name]
    content = file.read_bytes()
    return gzip.decompress(content) if file.name.endswith(_PACKED) else content


def index_page(title: str, *, manifest: str = "") -> bytes:
    """The page itself under a title, with its policy; `manifest` is the file that makes it an installable app."""
    link = f'<link rel="manifest" href="{html.escape(manifest)}">' if manifest else ""
    text = page_content("index.html").decode("utf-8")
    text = text.replace('content="POLICY"', f'content="{html.escape(POLICY)}"')
    text = text.replace("<!-- manifest -->\n", f"{link}\n" if link else "")
    return text.replace("<title>Werkmeister</title>", f"<title>{html.escape(title)}</title>").encode("utf-8")


def _names() -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    waiting = [("", resources.files("werkmeister.delivery") / "page")]
    while waiting:
        above, folder = waiting.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                waiting.append((f"{above}{entry.name}/", entry))
            elif not entry.name.startswith("."):
                found[above + entry.name.removesuffix(_PACKED)] = entry
    return found
