"""A stream is watched in the playground while the engine that gives it is killed: by each contract of a route.

Two scripted engines give the same long answer and go on from a prefix, as vLLM and llama.cpp do. One route goes on at
the other engine, one begins anew there before anything is shown, one tells of the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.serving import ADMIN_KEY, ModelThread, serving, temporary_folder, write_files

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply, continuing

from .conftest import Browser

pytestmark = pytest.mark.services

STORY = " ".join(f"Chapter {number} tells of the house and its {number + 3} rooms." for number in range(1, 31))
SEEN_CHARACTERS = 120
MANIFEST = """
name: office
endpoints:
  lab-1: {type: openai, url: "%s", model: story, continues: true}
  lab-2: {type: openai, url: "%s", model: story, continues: true}
models:
  lasting: {ladder: [lab-1, lab-2], on_cut: continue}
  patient: {ladder: [lab-1, lab-2], on_cut: restart}
  told: {ladder: [lab-1, lab-2]}
"""


@dataclass
class Lab:
    """The console's address, and the engine that is killed."""

    url: str
    first: ModelThread
    second: ModelThread


@pytest.fixture
def lab() -> Iterator[Lab]:
    engines = [ModelThread() for _ in range(2)]
    for engine in engines:
        engine.script(Rule("", continuing(Reply(text=STORY, gap_s=0.03))))
    try:
        with temporary_folder() as folder:
            manifest = MANIFEST % tuple(engine.url for engine in engines)
            workspace = write_files(folder / "office", {"roadbed.yaml": manifest})
            with serving(workspace, folder / "state") as server:
                yield Lab(server.url, *engines)
    finally:
        engines[1].stop()


@pytest.fixture
def page(lab: Lab, tmp_path: Path) -> Iterator[Browser]:
    """A browser, signed in."""
    made = Browser(lab.url, tmp_path / "browser", 1280, is_dark=False, has_scripts=True)
    try:
        made.sign_in(ADMIN_KEY)
        yield made
    finally:
        made.close()


def answers(page: Browser) -> dict[str, str]:
    """What each route has answered so far, in the words that are shown."""
    return {
        card.find_element("css selector", "h2").text: card.find_element("css selector", ".answer").text
        for card in page.all(".try")
    }


def test_a_killed_engine_is_seen_as_each_route_promises(lab: Lab, page: Browser) -> None:
    page.open("/console/playground")
    for box in page.all('#playground input[name="routes"]'):
        if not box.is_selected():
            box.click()
    page.find("#prompt").send_keys("Tell a long story")
    page.find("#playground button.first").click()
    page.wait(lambda: len(answers(page)) == 3)
    page.wait(lambda: all(len(answers(page)[route]) > SEEN_CHARACTERS for route in ("lasting", "told")))
    assert answers(page)["patient"] == "", "nothing is shown of what may have to begin anew"
    asked = len(lab.second.model.chats)
    lab.first.stop()
    page.wait(lambda: page.run("return document.getElementById('stop').hidden"))
    shown = answers(page)
    assert shown["lasting"] == STORY, "joined without a seam"
    assert shown["patient"] == STORY
    assert STORY.startswith(shown["told"].rstrip())
    assert len(shown["told"]) < len(STORY)
    cards = {card.text.split("\n")[0]: card.text for card in page.all(".try")}
    assert "answer of lab-1 broke off" in cards["told"]
    assert "lab-2 went on where another broke off" in cards["lasting"]
    assert "lab-2 answered in place of others" in cards["patient"]
    turns = [chat.json["messages"][-1]["role"] for chat in lab.second.model.chats[asked:]]
    assert sorted(turns) == ["assistant", "user"], "one goes on, one begins anew"
    page.picture("stream-goes-on")
