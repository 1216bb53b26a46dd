"""The console as people use it: at a desk and on a phone, light and dark, with and without scripts."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from .conftest import ADMIN_KEY, Browser, MakeBrowser

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

QUESTION = "How much is paid for a kilometre by car?"
PAGES = {
    "overview": "/console",
    "ask": "/console/ask",
    "analytics": "/console/analytics",
    "bars": "/console/analytics/figures/run/by_town",
    "line": "/console/analytics/figures/run/by_month",
    "documents": "/console/documents?source=handbook",
    "failed": "/console/documents?source=handbook&state=failed",
    "uploads": "/console/documents?source=inbox",
    "models": "/console/models",
    "playground": "/console/playground",
    "traces": "/console/traces",
    "releases": "/console/releases",
    "release": "/console/releases/helpdesk",
    "move": "/console/releases/helpdesk/move?move=rollback",
    "keys": "/console/keys",
    "access": "/console/access?who=team%3Asales&what=keys.manage",
    "error": "/console/nothing",
}
LOOKED_AT = {
    **PAGES,
    "costs": "/console/costs",
    "tools": "/console/tools",
    "tool": "/console/tools/platform_status",
    "audit": "/console/audit",
    "compliance": "/console/compliance",
    "errors": "/docs/errors",
}
CONTRAST = """
const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const parts = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, a = 1] = parts(getComputedStyle(at).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!text || !element.checkVisibility() || element.closest("svg, [disabled]")) continue;
  const a = light(parts(getComputedStyle(element).color)) + 0.05, b = light(ground(element)) + 0.05;
  const ratio = Math.max(a, b) / Math.min(a, b);
  const name = `${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 30)}`;
  if (ratio < 4.5) poor.push(`${name}: ${ratio.toFixed(2)}`);
}
return poor;
"""
SMALL = """
return [...document.querySelectorAll("button, select, input:not([type=hidden]), .button, .side a")]
  .filter((element) => element.checkVisibility())
  .map((element) => [element.outerHTML.slice(0, 60), element.getBoundingClientRect()])
  .filter(([, box]) => box.height < 24 && !(box.width === 18 && box.height === 18))
  .map(([name, box]) => `${name} ${box.width}x${box.height}`);
"""


def look(browser: Browser, name: str) -> None:
    """What must hold on every page, at every width, in both schemes."""
    browser.picture(name)
    width = browser.run("return document.documentElement.scrollWidth")
    assert width <= browser.width, f"{name} is {width} px wide"
    assert browser.run(CONTRAST) == [], name
    assert browser.run(SMALL) == [], name
    assert browser.run("return document.querySelectorAll('h1').length") == 1, name


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("is_dark", [False, True])
def test_every_page_reads_well(browser: MakeBrowser, width: int, is_dark: bool) -> None:
    page = browser(width, is_dark=is_dark)
    page.open("/console")
    look(page, "sign-in")
    page.sign_in()
    page.ask(QUESTION)
    look(page, "answer")
    for name, path in LOOKED_AT.items():
        page.open(path)
        look(page, name)
    page.open("/console/traces")
    page.find(".row-link").click()
    page.wait(lambda: page.find("h1").text.startswith("Trace "))
    look(page, "trace")
    page.open("/console/documents?source=handbook")
    page.find(".row-link").click()
    page.wait(lambda: page.find("#chunks"))
    look(page, "document")


def test_a_streamed_answer_and_its_citation(browser: MakeBrowser) -> None:
    page = browser()
    page.sign_in()
    page.ask(QUESTION)
    assert "0.42 EUR" in page.find(".answer").text
    assert "0.42 EUR" in page.find("#sources mark").text
    assert "0.42 EUR" in page.run("return document.getElementById('heard').textContent")  # said once, whole
    assert page.run("return document.activeElement.id") == "question"
    assert page.run("return location.pathname + location.hash") == "/console/ask"  # it was streamed, not loaded anew
    page.find("#question").send_keys("And tolls?")
    page.find("#question").send_keys(Keys.CONTROL, Keys.ENTER)
    page.wait(lambda: len(page.all("#turns .turn .foot")) == 2)
    assert QUESTION in page.find("#turns").text
    page.find(".cite").click()
    page.wait(lambda: page.find("#passage"))
    assert "0.42 EUR" in page.find("#passage").text
    top = page.run("return document.getElementById('passage').getBoundingClientRect().top")
    assert 0 <= top < 900


def test_enter_sends_a_question_and_shift_enter_makes_a_new_line(browser: MakeBrowser) -> None:
    page = browser()
    page.sign_in()
    page.open("/console/ask")
    said = page.find("#question-keys")
    assert said.is_displayed()
    assert said.text == "Enter sends, Shift + Enter makes a new line"
    field = page.find("#question")
    assert "question-keys" in (field.get_attribute("aria-describedby") or "")
    field.send_keys(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "question"  # there was nothing to send
    assert page.all("#turns .turn") == []
    field.send_keys("How much is paid", Keys.SHIFT, Keys.ENTER, Keys.NULL, "for a kilometre by car?")
    assert page.all("#turns .turn") == []
    assert field.get_attribute("value") == "How much is paid\nfor a kilometre by car?"
    compose = {"key": "Enter", "bubbles": True, "cancelable": True, "isComposing": True}
    page.run(f"document.getElementById('question').dispatchEvent(new KeyboardEvent('keydown', {json.dumps(compose)}))")
    assert page.all("#turns .turn") == []
    field.send_keys(Keys.ENTER)
    page.wait(lambda: page.find("#turns .turn .foot"))
    assert "0.42 EUR" in page.find(".answer").text
    assert field.get_attribute("value") == ""


def test_enter_makes_a_new_line_on_a_phone_whose_keyboard_has_no_other(browser: MakeBrowser) -> None:
    page = browser(390)
    page.sign_in()
    page.open("/console/ask")
    assert not page.find("#question-keys").is_displayed()
    page.find("#question").send_keys("And", Keys.ENTER, "tolls?")
    assert page.find("#question").get_attribute("value") == "And\ntolls?"
    assert page.all("#turns .turn") == []


def test_enter_makes_a_new_line_where_no_script_runs_and_the_button_sends(browser: MakeBrowser) -> None:
    page = browser(has_scripts=False)
    page.sign_in()
    page.open("/console/ask")
    assert not page.find("#question-keys").is_displayed()
    page.find("#question").send_keys("How much is paid", Keys.ENTER, "for a kilometre by car?")
    assert page.find("h1").text == "Ask"
    assert page.all("#turns .turn") == []
    page.find("#ask button.first").click()
    page.wait(lambda: "0.42 EUR" in page.find(".answer").text)


def try_prompt(page: Browser) -> None:
    page.open("/console/playground")
    page.find("#prompt").send_keys("Say something")
    page.find("#playground button.first").click()
    page.wait(lambda: len(page.all(".try .facts")) == 2)
    assert "You said: Say something" in page.find("#tries").text
    assert "fallback model" in page.find("#tries").text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("is_dark", [False, True])
def test_a_prompt_is_tried_and_the_endpoints_are_seen(browser: MakeBrowser, width: int, is_dark: bool) -> None:
    page = browser(width, is_dark=is_dark)
    page.sign_in()
    try_prompt(page)
    assert page.run("return document.querySelector('#stop').hidden")
    look(page, "tried")
    page.open("/console/models")
    page.find("summary").click()
    assert "fault" in page.find(".failures").text
    look(page, "models-used")
    page.find("button[value=drain]").click()
    page.wait(lambda: "takes no new requests" in page.find("[role=status]").text)
    look(page, "models-drained")
    page.find("button[value=resume]").click()
    page.wait(lambda: "takes requests again" in page.find("[role=status]").text)


def test_a_prompt_is_tried_without_scripts(browser: MakeBrowser) -> None:
    page = browser(390, has_scripts=False)
    page.sign_in()
    try_prompt(page)


def test_it_all_works_without_scripts(browser: MakeBrowser) -> None:
    page = browser(390, has_scripts=False)
    page.sign_in()
    page.open("/console/ask")
    page.find(".example").click()
    page.wait(lambda: "0.42 EUR" in page.find(".answer").text)
    page.find("#question").send_keys("And tolls?")
    page.find("#ask button.first").click()
    page.wait(lambda: len(page.all("#turns .turn")) == 2)
    page.find(".cite").click()
    page.wait(lambda: page.find("#passage"))
    page.open("/console/traces")
    page.find(".row-link").click()
    page.wait(lambda: "What happened" in page.find("main").text)
    page.open("/console/documents?source=handbook&state=failed")
    assert "broken.pdf" in page.find("main").text
    page.find(".who form button").click()
    page.wait(lambda: page.find("#key"))


def test_the_keyboard_goes_everywhere(browser: MakeBrowser) -> None:
    page = browser()
    page.sign_in()
    page.ask(QUESTION)
    body = "body"
    page.find(body).send_keys(Keys.ESCAPE)
    page.run("document.activeElement.blur()")
    page.find(body).send_keys("g")
    page.find(body).send_keys("t")
    page.wait(lambda: page.find("h1").text == "Traces")
    page.find(body).send_keys("j")
    page.run("return document.activeElement").send_keys(Keys.ENTER)
    page.wait(lambda: page.find("h1").text.startswith("Trace "))
    page.find(body).send_keys("?")
    assert page.find("#shortcuts").is_displayed()
    page.find(body).send_keys(Keys.ESCAPE)
    page.wait(lambda: not page.find("#shortcuts").is_displayed())
    page.find(body).send_keys("g")
    page.find(body).send_keys("a")
    page.wait(lambda: page.find("h1").text == "Ask")
    page.find(body).send_keys("/")
    assert page.run("return document.activeElement.id") == "question"


def test_single_letters_can_be_switched_off(browser: MakeBrowser) -> None:
    page = browser()
    page.sign_in()
    page.find("body").send_keys("?")
    page.find("[data-setting=letters]").click()
    page.find("#shortcuts button").click()
    page.open("/console")
    page.find("body").send_keys("?")
    assert not page.find("#shortcuts").is_displayed()


def test_every_control_can_be_used_under_the_policy(browser: MakeBrowser) -> None:
    page = browser()
    page.sign_in()
    for path in PAGES.values():
        page.open(path)
        for number in range(len(page.all("main button, main summary, main .button"))):
            page.open(path)
            controls = page.all("main button, main summary, main .button")
            if number < len(controls) and controls[number].is_displayed():
                label = controls[number].text
                if label not in ("Roll back", "Revoke") or "/move" not in path:
                    page.run("arguments[0].click()", controls[number])
    assert page.complaints() == []


def test_a_document_is_uploaded_and_found(browser: MakeBrowser, tmp_path: Path) -> None:
    file = tmp_path / "parking.md"
    file.write_text("# Parking\n\nThe garage opens at seven and the code of the gate changes every quarter.\n")
    page = browser()
    page.sign_in()
    page.open(PAGES["uploads"])
    page.find("input[type=file]").send_keys(str(file))
    page.find("main form button.first").click()
    page.wait(lambda: "1 file was taken" in page.find("[role=status]").text)

    def is_indexed() -> bool:
        page.open(PAGES["uploads"])
        return any("Parking" in link.text for link in page.all(".row-link"))

    page.wait(is_indexed)
    page.ask("When does the garage open?")
    assert "seven" in page.find(".answer").text


def test_a_one_time_link_signs_in(browser: MakeBrowser) -> None:
    page = browser()
    request = urllib.request.Request(
        f"{page.url}/api/sign-in-links", method="POST", headers={"authorization": f"Bearer {ADMIN_KEY}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        path = json.load(answer)["path"]
    page.open(path)
    page.find("button.first").click()
    page.wait(lambda: page.find("h1").text == "Overview")
    page.find(".who form button").click()
    page.wait(lambda: page.find("#key"))
    page.open(path)
    page.find("button.first").click()
    page.wait(lambda: "not valid any more" in page.find("[role=alert]").text)
