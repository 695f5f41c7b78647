# SPDX-License-Identifier: Apache-2.0
"""The pages for people in a real browser, driven over WebDriver (W3C) alone: the style sheet is let through
by the page's own policy, nothing else is, nothing is fetched, and they print."""
import base64
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import requests
from conftest import DIGITS

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # W3C WebDriver, sec. 12.2
pytestmark = pytest.mark.skipif(not (DRIVER and CHROMIUM),
                                reason="no browser: apt-get install chromium chromium-driver")


class Browser:
    def __init__(self, folder):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}/session"
        options = {"binary": CHROMIUM, "args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                                                "--no-first-run", "--disable-background-networking",
                                                "--disable-component-update", "--disable-sync",
                                                "--window-size=900,1200", f"--user-data-dir={folder}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        for _ in range(200):
            try:
                requests.get(self.url.replace("session", "status"), timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.05)
        made = requests.post(self.url, json={"capabilities": {"alwaysMatch": wanted}}, timeout=120).json()["value"]
        self.url += "/" + made["sessionId"]

    def ask(self, method, path, **body):
        r = requests.request(method, f"{self.url}/{path}", json=body if method == "POST" else None, timeout=60)
        assert r.status_code == 200, r.text
        return r.json()["value"]

    def open(self, url):
        self.ask("POST", "url", url=url)

    def find(self, css):
        return [e[ELEMENT] for e in self.ask("POST", "elements", using="css selector", value=css)]

    def text(self, css):
        return "\n".join(self.ask("GET", f"element/{e}/text") for e in self.find(css))

    def css(self, selector, name):
        return self.ask("GET", f"element/{self.find(selector)[0]}/css/{name}")

    def complaints(self):
        return [entry["message"] for entry in self.ask("POST", "se/log", type="browser")
                if "favicon" not in entry["message"]]

    def shot(self, path):
        Path(path).write_bytes(base64.b64decode(self.ask("GET", "screenshot")))

    def pages_printed(self):
        return base64.b64decode(self.ask("POST", "print")).count(b"/Type /Page\n")

    def close(self):
        requests.delete(self.url, timeout=60)  # or the browser stays
        self.driver.terminate()
        self.driver.wait(20)


@pytest.fixture
def browser(tmp_path):
    b = Browser(tmp_path / "profile")
    yield b
    b.close()


@pytest.fixture
def erased(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    daemon.train("digits")
    return daemon, daemon.erase(subjects=["s3"], regulation="gdpr", reference="DSR-9")


def test_the_certificate_reads_and_prints(erased, browser, tmp_path):
    d, e = erased
    browser.open(f"{d.url}/v1/erasures/{e['id']}/certificate")
    assert browser.text("h1") == "Certificate of erasure" and "DSR-9" in browser.text("body")
    assert "Georgia" in browser.css("body", "font-family"), "its style sheet was not let through"
    assert browser.complaints() == []
    browser.shot(tmp_path / "certificate.png")
    assert browser.pages_printed() >= 1
    # the same as a file, which a controller may be sent
    page = tmp_path / "certificate.html"
    d.ctl("certificate", e["id"], "-o", str(tmp_path / "c.json"), "--html", str(page))
    browser.open(page.as_uri())
    assert browser.text("h1") == "Certificate of erasure"
    assert "Georgia" in browser.css("body", "font-family")
    assert browser.complaints() == []


def test_the_report_reads_and_prints(erased, browser, tmp_path):
    d, _ = erased
    browser.open(f"{d.url}/v1/audit/report")
    assert browser.text("h1") == "Erasure requests" and "completed" in browser.text("table")
    assert "Georgia" in browser.css("body", "font-family"), "its style sheet was not let through"
    assert browser.css("td", "text-align") == "left" and browser.complaints() == []
    browser.shot(tmp_path / "report.png")
    assert browser.pages_printed() >= 1


def test_a_style_that_is_not_the_page_s_own_is_refused(erased, browser):
    """Or the two above could not fail."""
    d, _ = erased
    browser.open(f"{d.url}/v1/audit/report")
    browser.ask("POST", "execute/sync", args=[], script="""
        const s = document.createElement('style');
        s.textContent = 'body { font-family: monospace }';
        document.head.append(s);""")
    assert "Georgia" in browser.css("body", "font-family")
    assert any("Content Security Policy" in m for m in browser.complaints())
