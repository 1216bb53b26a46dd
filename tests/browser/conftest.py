"""A real deployment over a small folder, and headless Chromium in front of it. Only ``make test-services`` runs these.

A browser collects every violation of the content security policy and every error of a script; `Browser.close` fails
when there was one. Pictures of pages go to the folder named by ``ROADBED_SCREENSHOTS``, when it is set.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ADMIN_KEY = "rbk_browser_0123456789abcdef0123456789abcdef"
WAIT_S = 20
STOP_S = 30
HEIGHT_PX = 900
PHONE_PX = 600
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
)
MOUSE = "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
"""A browser without a screen has no mouse either; at a desk there is one."""
COLLECT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  const seen = JSON.parse(sessionStorage.getItem("violations") || "[]");
  seen.push(`${event.violatedDirective} ${event.blockedURI} on ${location.pathname}`);
  sessionStorage.setItem("violations", JSON.stringify(seen));
});
"""
MANIFEST = """
name: acme
sources:
  handbook:
    type: files
    path: ./documents
  inbox:
    type: uploads
  trips:
    type: sqlite
    path: ./trips.sqlite
collections:
  company:
    sources: [handbook, inbox]
endpoints:
  house: {{type: openai, url: "{model}", model: house-model}}
  cloud: {{type: openai, url: "{model}", model: cloud-model, local: false, price_input: 1, price_output: 4}}
  away: {{type: openai, url: "http://127.0.0.1:9/v1", model: away-model, local: false}}
models:
  at-home: {{ladder: [house]}}
  smart: {{ladder: [away, cloud, house]}}
apps:
  helpdesk:
    kind: copilot
    knowledge: [company]
    description: Answers about travel and leave.
    examples: ["How much is paid for a kilometre by car?"]
  search:
    kind: search
    knowledge: [company]
  figures:
    kind: analytics
    sources: [trips]
    questions:
      by_town: {{title: "How many trips went to each town?", source: trips, sql: "SELECT town, trips FROM trips"}}
      by_month: {{title: "How many trips were there each month?", source: trips, sql: "SELECT month, n FROM months"}}
"""
TRIPS = """
CREATE TABLE trips (town text, trips integer);
INSERT INTO trips VALUES ('Oslo', 12), ('A town with a long name', 3), ('Bergen', 7);
CREATE TABLE months (month text, n integer);
INSERT INTO months VALUES ('2026-01-01', 4), ('2026-02-01', 9), ('2026-03-01', 2);
"""
DOCUMENTS = {
    "travel.md": "# Travel\n\n## By car\n\nFor a kilometre by car 0.42 EUR is paid.\nTolls are paid in full.\n\n"
    "## By train\n\nSecond class is paid; first class needs the consent of the head of the unit.\n",
    "leave.md": "# Leave\n\nEverybody has 28 days of leave a year. Up to five days go over to the next year.\n",
    "broken.pdf": "%PDF-1.7 this is no document",
}


@dataclass
class Address:
    """Where the deployment of the session is."""

    url: str


@pytest.fixture(scope="session")
def deployment() -> Iterator[Address]:
    """``roadbed up`` on a folder of its own, ready."""
    with tempfile.TemporaryDirectory(prefix="roadbed-browser-") as name:
        folder = Path(name)
        documents = folder / "work" / "documents"
        documents.mkdir(parents=True)
        model = subprocess.Popen(
            [sys.executable, "-m", "roadbed.testing.scripted_model"], stdout=subprocess.PIPE, text=True
        )
        assert model.stdout is not None
        url = model.stdout.readline().strip()
        (folder / "work" / "roadbed.yaml").write_text(MANIFEST.format(model=url))
        for document, text in DOCUMENTS.items():
            (documents / document).write_text(text)
        with closing(sqlite3.connect(folder / "work" / "trips.sqlite")) as trips:
            trips.executescript(TRIPS)
        command = [sys.executable, "-m", "roadbed.cli", "up", str(folder / "work"), "--port", "0"]
        process = subprocess.Popen(
            [*command, "--state", str(folder / "state")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ROADBED_ADMIN_KEY": ADMIN_KEY},
        )
        try:
            yield Address(_address_of(process))
        finally:
            process.terminate()
            process.communicate(timeout=STOP_S)
            model.terminate()
            model.communicate(timeout=STOP_S)


def _address_of(process: subprocess.Popen[str]) -> str:
    """Read what the start says until everything is read."""
    assert process.stdout is not None
    url, said = "", []
    for line in process.stdout:
        said.append(line)
        words = line.split()
        if words[:1] == ["console"]:
            url = words[1].removesuffix("/console")
        if line.startswith("every source was read"):
            return url
    raise AssertionError(f"the deployment did not start:\n{''.join(said)}")


class Browser:
    """One headless Chromium at one width, light or dark, with or without scripts."""

    def __init__(self, url: str, folder: Path, width: int, *, is_dark: bool, has_scripts: bool) -> None:
        options = webdriver.ChromeOptions()
        for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={folder}", *([MOUSE] if width > PHONE_PX else ())):
            options.add_argument(flag)
        if not has_scripts:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.url = url
        self.width = width
        self.name = f"{width}-{'dark' if is_dark else 'light'}"
        self.has_scripts = has_scripts
        self.resize(HEIGHT_PX)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[scheme, motion])
        self.command("Page.addScriptToEvaluateOnNewDocument", source=COLLECT_VIOLATIONS)

    def command(self, name: str, **values: Any) -> Any:
        """A command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(name, values)

    def resize(self, height: int) -> None:
        """Set the height of the window."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=self.width,
            height=height,
            deviceScaleFactor=1,
            mobile=self.width < PHONE_PX,
        )

    def open(self, path: str) -> None:
        """Go to a page."""
        self.driver.get(self.url + path)

    def sign_in(self, key: str = ADMIN_KEY) -> None:
        """Sign in with the admin's key."""
        self.open("/console")
        self.find("#key").send_keys(key)
        self.find("button.first").click()
        self.wait(lambda: "Overview" in self.find("h1").text)

    def find(self, selector: str) -> WebElement:
        """The first element that fits."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All elements that fit."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *values: Any) -> Any:
        """The value of a script in the page."""
        return self.driver.execute_script(script, *values)

    def wait(self, is_true: Callable[[], object]) -> None:
        """Until something is so; elements that went away meanwhile are looked for again."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

        ignored = (NoSuchElementException, StaleElementReferenceException)
        WebDriverWait(self.driver, WAIT_S, poll_frequency=0.05, ignored_exceptions=ignored).until(lambda _: is_true())

    def ask(self, question: str) -> None:
        """Ask on the page Ask and wait for the whole answer."""
        self.open("/console/ask")
        self.find("#question").send_keys(question)
        self.find("#ask button.first").click()
        self.wait(lambda: self.find("#turns .turn .foot"))

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page."""
        folder = os.environ.get("ROADBED_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.resize(min(3000, int(self.run("return document.documentElement.scrollHeight"))))
            self.driver.save_screenshot(str(Path(folder) / f"{name}-{self.name}.png"))
            self.resize(HEIGHT_PX)

    def complaints(self) -> list[str]:
        """Violations of the policy and errors of scripts since the start."""
        log: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        found = [entry["message"] for entry in log if entry["level"] == "SEVERE"]
        if self.has_scripts:
            found += self.run("return JSON.parse(sessionStorage.getItem('violations') || '[]')")
        return [text for text in found if "status of 4" not in text]

    def close(self) -> None:
        """Quit; fails when the browser complained."""
        try:
            complaints = self.complaints()
        finally:
            self.driver.quit()
        assert not complaints, complaints


MakeBrowser = Callable[..., Browser]


@pytest.fixture
def browser(deployment: Address, tmp_path: Path) -> Iterator[MakeBrowser]:
    """Makes browsers, which are closed and must not have complained."""
    made: list[Browser] = []

    def make(width: int = 1280, *, is_dark: bool = False, has_scripts: bool = True) -> Browser:
        folder = tmp_path / f"browser-{len(made)}"
        made.append(Browser(deployment.url, folder, width, is_dark=is_dark, has_scripts=has_scripts))
        return made[-1]

    yield make
    for one in made:
        one.close()
