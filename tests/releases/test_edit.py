"""Inserting a model into manifests of every shape: the result decodes, and nothing else of the text changes."""

from __future__ import annotations

import pytest

from roadbed.kernel.config import decode, parse_yaml
from roadbed.kernel.errors import ConfigError
from roadbed.releases.edit import NoSuchApp, add_model
from roadbed.releases.manifest import Manifest

HEAD = "name: acme   # ours\n"
APPS = """\
apps:
  # the one that people use
  helpdesk:
    kind: copilot   # answers
    knowledge: [company]

  short: {kind: copilot, knowledge: [company]}
  old:
    kind: copilot
    model: first    # may change
    knowledge: [company]
"""
MODELS = {
    "none": "",
    "none, no line break": "traces: {keep: 7d}",
    "empty": "models:\n",
    "empty, then more": "models:\ntraces: {keep: 7d}\n",
    "empty flow": "models: {}\n",
    "flow": "models: {first: {ladder: [openai/x]}}  # all\n",
    "block": "models:\n  first: {ladder: [openai/x]}  # best\n",
    "deep block": "models:\n    first:\n        ladder:\n            - openai/x   # best\n            - mistral/y\n",
    "block, then more": "models:\n  first:\n    ladder: [openai/x]\n\n# what is kept\ntraces: {keep: 7d}\n",
    "no line break": "models:\n  first: {ladder: [openai/x]}",
}


def kept(before: str, after: str) -> bool:
    """Whether all of ``before`` stands in ``after``, in order."""
    rest = iter(after)
    return all(character in rest for character in before.rstrip())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("app", ["", "helpdesk", "short"])
def test_the_model_is_added_and_all_else_stays(kind: str, app: str) -> None:
    models = MODELS[kind]
    text = HEAD + APPS + models
    after = add_model(text, "openai", ["openai/gpt-5-mini"], comment="a word", app=app)
    manifest = decode(parse_yaml(after), Manifest)
    assert manifest.models["openai"].ladder == ["openai/gpt-5-mini"]
    assert list(manifest.models)[-1] == "openai" or "{" in models.partition("\n")[0]
    assert kept(text, after)
    before = decode(parse_yaml(text.replace("models:\n", "") if "empty" in kind else text), Manifest)
    for name, config in before.apps.items():
        assert manifest.apps[name].model == ("openai" if name == app else config.model)
    assert {name: manifest.models[name] for name in before.models} == dict(before.models)
    assert manifest.traces == before.traces


def test_an_app_that_names_a_model_gets_the_new_one() -> None:
    after = add_model(HEAD + APPS, "openai", ["openai/x"], app="old")
    assert decode(parse_yaml(after), Manifest).apps["old"].model == "openai"
    assert "model: openai    # may change" in after


def test_what_is_there_already_or_not_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="already"):
        add_model(HEAD + MODELS["block"], "first", ["openai/x"])
    with pytest.raises(NoSuchApp) as missing:
        add_model(HEAD + APPS, "openai", ["openai/x"], app="helpdsk")
    assert "helpdesk" in missing.value.hint
    with pytest.raises(NoSuchApp):
        add_model(HEAD, "openai", ["openai/x"], app="helpdesk")
