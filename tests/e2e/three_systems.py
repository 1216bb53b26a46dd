"""The example's copilot asked about three systems at once: its workspace, a scripted model, and what answers cite."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Prompt, Reply, ScriptedCall, find_passages

from .serving import EXAMPLE, ModelThread, Server, launch, temporary_folder

QUESTION = "How is a comparable sale chosen, what was sold last in {}, and how many people have profiles there?"
TOOLS = ("sales_in", "clients_in")
_ROW = re.compile(r'<row number="(\d+)">(\{.*?\})</row>')


def rows_in(prompt: Prompt) -> list[tuple[int, dict[str, Any]]]:
    """The rows that tools gave, with their numbers."""
    return [(int(number), json.loads(cells)) for number, cells in _ROW.findall(prompt.everything)]


def answer(prompt: Prompt) -> Reply:
    """Asks for both tools at once, then says a sentence of each thing that came. It never says what is missing."""
    place = prompt.last_user_text.partition("sold last in ")[2].partition(",")[0]
    if not any(role == "tool" for role, _ in prompt.texts):
        asked = json.dumps({"municipality": place})
        return Reply("Let me look that up.", calls=tuple(ScriptedCall(name, asked) for name in TOOLS))
    number, passage = next(item for item in find_passages(prompt.everything).items() if "omparable" in item[1])
    sentence = next(part for part in re.split(r"(?<=\.)\s", passage) if "omparable" in part)
    said = [f"{sentence.strip().rstrip('.')} [{number}]."]
    for number, cells in rows_in(prompt):
        if "price_nok" in cells and not any("price" in part for part in said):
            said.append(f"The last sale in {place} has the price NOK {int(cells['price_nok']):,} [{number}].")
        if cells.get("role") == "client":
            said.append(f"In {place} {cells['people']} people with the role client have a profile [{number}].")
    return Reply(" ".join(said))


@dataclass
class Office:
    """The served example, its model and a key of the team that may see all three systems."""

    server: Server
    model: ModelThread
    key: str

    def ask(self, place: str, **headers: str) -> dict[str, Any]:
        """The whole answer to the question about a municipality."""
        body = {"model": "helpdesk", "messages": [{"role": "user", "content": QUESTION.format(place)}]}
        with self.server.client(self.key) as client:
            response = client.post("/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == 200, f"{response.text}\n{self.server.output[-2000:]}"
        return dict(response.json())


@contextmanager
def open_office(dsn: str = "") -> Iterator[Office]:
    """The example with a scripted model, and with one of its documents, so that it is ready soon.

    With ``dsn`` the register of sales is that database of another server, and its rows are no documents.
    """
    model = ModelThread()
    with temporary_folder() as folder:
        workspace = folder / "office"
        for part in ("data", "prompts"):
            shutil.copytree(EXAMPLE / part, workspace / part)
        (workspace / "documents").mkdir()
        shutil.copy(EXAMPLE / "documents" / "methods" / "comparable-sales.md", workspace / "documents")
        manifest = yaml.safe_load((EXAMPLE / "roadbed.yaml").read_text())
        manifest["endpoints"] = {"house": {"type": "openai", "url": model.url, "model": "m", "local": True}}
        manifest["models"] = {"smart": {"ladder": ["house"]}}
        manifest["collections"] = {"company": {"sources": ["handbook"]}}
        del manifest["sources"]["roadbed-docs"], manifest["apps"]["docs"]
        manifest["teams"] = {"support": {}}
        if dsn:
            register = manifest["sources"]["appraisals"]
            register["dsn"] = "env:REGISTER_DSN"
            del register["seed"]
        (workspace / "roadbed.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
        server = launch(workspace, folder / "state", variables={"REGISTER_DSN": dsn} if dsn else None)
        try:
            model.script(Rule(".", answer))
            yield Office(server, model, server.new_key("support")["key"])
        finally:
            server.stop()
            model.stop()


def sources_cited(answered: dict[str, Any]) -> set[str]:
    """The systems that the citations in the answer's text come from."""
    text = answered["choices"][0]["message"]["content"]
    return {one["source"] for one in answered["roadbed"]["citations"] if f"[{one['number']}]" in text}
