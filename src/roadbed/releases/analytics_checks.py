"""What an app of the kind ``analytics`` declares against the manifest's sources: each thing that cannot work. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

from roadbed.apps.analytics_manifest import QuestionConfig
from roadbed.apps.analytics_parameters import places_of
from roadbed.apps.manifest import AppConfig
from roadbed.kernel.config import Document, KeyPath, nearest
from roadbed.kernel.errors import ConfigError
from roadbed.releases.manifest import Manifest
from roadbed.sources.manifest import DatabaseSource


def check_analytics(name: str, app: AppConfig, manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    """What is wrong with an analytics app."""
    path: KeyPath = ("apps", name)
    if not app.sources:
        yield document.error(f"the app `{name}` needs `sources`", path, hint="a list of databases")
    for i, source in enumerate(app.sources):
        if not isinstance(manifest.sources.get(source), DatabaseSource):
            yield document.error(
                f"there is no database named `{source}`", (*path, "sources", i), hint=_hint(source, manifest)
            )
    try:
        ZoneInfo(app.time_zone)
    except (OSError, ValueError):
        hint = "a name such as Europe/Oslo"
        yield document.error(f"there is no time zone `{app.time_zone}`", (*path, "time_zone"), hint=hint)
    for key, metric in app.metrics.items():
        if metric.source not in app.sources:
            yield document.error(
                f"the metric asks `{metric.source}`, which the app does not list", (*path, "metrics", key, "source")
            )
    for word, meant in app.synonyms.items():
        known = [*app.metrics, *app.dimensions]
        if meant not in known:
            hint = nearest(meant, known) or f"known: {', '.join(known) or 'none'}"
            yield document.error(f"`{meant}` is no metric and no dimension", (*path, "synonyms", word), hint=hint)
    for key, question in app.questions.items():
        yield from _check_question(question, app, document, (*path, "questions", key))


def _check_question(
    question: QuestionConfig, app: AppConfig, document: Document, path: KeyPath
) -> Iterator[ConfigError]:
    has_one = bool(question.sql and question.source)
    if has_one == bool(question.parts) or bool(question.sql) != bool(question.source):
        yield document.error("a question has `source` and `sql`, or `parts` and `join`", path)
        return
    if question.parts and len(question.parts) > 1 and not question.join:
        yield document.error("several parts need a `join`", path, hint="one SELECT over the parts' names")
    asked = [part.source for part in question.parts.values()] or [question.source]
    for source in asked:
        if source not in app.sources:
            yield document.error(f"the question asks `{source}`, which the app does not list", path)
    texts = [question.sql, question.join, *(part.sql for part in question.parts.values())]
    places = {place for text in texts for place in places_of(text)}
    for place in sorted(places - set(question.parameters)):
        yield document.error(f"the statement has the place :{place}, which is not declared", (*path, "parameters"))
    for parameter in question.parameters:
        if parameter not in places:
            yield document.error(f"the parameter `{parameter}` is not used", (*path, "parameters", parameter))


def _hint(source: str, manifest: Manifest) -> str:
    known = [name for name, config in manifest.sources.items() if isinstance(config, DatabaseSource)]
    return nearest(source, known) or f"databases: {', '.join(known) or 'none'}"
