"""A Space as a stranger has it: `python app.py` in a process of its own, in headless Chromium.

The tests skip, with the reason, where gradio, playwright or a Chromium is missing. `QWENLONG_TRL_SCREENSHOTS` names a
folder for pictures of each page at 390 and 1280 px, light and dark; without it none are kept.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
WIDTHS = (1280, 390)
SECONDS = 240  # for a page that starts, or a model that answers, on a busy machine
# Neither certificates, updates nor accounts: a browser that talks to this machine alone.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing() -> str | None:
    """What is not there for tests in a browser."""
    for module in ("gradio", "playwright"):
        if find_spec(module) is None:
            return f"{module} is not installed: pip install gradio playwright"
    return None if CHROMIUM else "there is no Chromium: apt-get install chromium"


@contextmanager
def running(space: str, **environment):
    """The address of a Space that runs; it is ended behind the block, and what it printed is in every error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {
        **{"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False"},
        **{"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment},
    }
    command = [sys.executable, "app.py"]
    process = subprocess.Popen(
        command, cwd=ROOT / "spaces" / space, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            if process.poll() is not None:
                pytest.fail(f"spaces/{space}/app.py ended with {process.returncode}:\n{process.stdout.read()[-4000:]}")
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def page_of(chromium, address: str, width: int = 1280, theme: str = "light"):
    """
    A page that must not ask another server for anything, nor report an error in its console.

    A response of 4xx is reported there, too: an upload that is refused is one.
    """
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(SECONDS * 1000)
    foreign, errors = [], []
    page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url, address) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/?__theme={theme}")
    try:
        yield page
        assert not foreign, f"the page asks other servers: {foreign}"
        assert not errors, errors
    finally:
        page.close()


def is_foreign(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def message(page) -> str:
    """The text of the error that the page shows."""
    toast = page.locator(".toast-body.error").last
    toast.wait_for()
    return toast.inner_text()


def close_message(page) -> None:
    page.locator(".toast-close").last.click()
    page.locator(".toast-body").first.wait_for(state="detached")


def check_layout(page) -> None:
    """Nothing is wider than the page, and everything that can be worked has a name."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, select')].filter(one => {
            if (!one.checkVisibility() || one.type === 'file') return false;
            const labels = [...(one.labels || [])].map(label => label.innerText).join('');
            return !(labels || one.innerText || one.getAttribute('aria-label') || one.title || one.placeholder).trim();
        }).map(one => one.outerHTML.slice(0, 200))"""
    )
    assert not nameless, nameless


def keep_picture(page, name: str) -> None:
    """A picture of the whole page, where pictures are asked for."""
    if folder := os.environ.get("QWENLONG_TRL_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
