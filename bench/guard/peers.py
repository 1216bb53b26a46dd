"""The peers' side of `bench/guard/run.py` and `quality.py`: run by a Python that has Presidio and detect-secrets.

Reads JSON lines ``{"text": ...}`` and writes, for each, the spans that Presidio finds; or measures its own speed with
``--speed``. Uses the largest English model of spaCy that is installed, and says which; without one, patterns alone.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODELS = ("en_core_web_trf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm")


def analyzer() -> tuple[Any, str]:
    """Presidio's engine, and the name of its model."""
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider, SpacyNlpEngine

    model = next((name for name in MODELS if spacy.util.is_package(name)), "")
    if model:
        settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
        return AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine()), model

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

        def load(self) -> None:
            pass

    return AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"]), "none: patterns alone"


def detect_secrets_in(text: str) -> bool:
    """Whether detect-secrets with its default plug-ins finds something."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.py"
        file.write_text(text, encoding="utf-8")
        with default_settings():
            secrets = SecretsCollection()
            secrets.scan_file(str(file))
    return any(True for _ in secrets)


def main() -> None:
    """Read the mode; write the answer."""
    versions = {name: importlib.metadata.version(name) for name in ("presidio-analyzer", "detect-secrets", "spacy")}
    mode = sys.argv[1]
    if mode == "secrets":
        print(json.dumps({"versions": versions}))
        for line in sys.stdin:
            print(json.dumps(detect_secrets_in(json.loads(line)["text"])))
        return
    engine, model = analyzer()
    print(json.dumps({"versions": versions, "model": model}))
    if mode == "speed":
        for line in sys.stdin:
            text = json.loads(line)["text"]
            times = []
            for _ in range(30):
                start = time.perf_counter()
                engine.analyze(text, language="en")
                times.append((time.perf_counter() - start) * 1e6)
            print(json.dumps([statistics.median(times), max(times)]))
        return
    for line in sys.stdin:
        found = engine.analyze(json.loads(line)["text"], language="en")
        print(json.dumps([[result.entity_type, result.start, result.end] for result in found]))


if __name__ == "__main__":
    main()
