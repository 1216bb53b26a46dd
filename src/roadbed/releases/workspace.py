"""Reading a workspace: the manifest, the prompts it names, and every reference between its sections checked.

A folder without ``roadbed.yaml`` is a workspace too: `infer_manifest` gives it one source, one collection, and the apps
``search`` and ``copilot``. Loading is pure but for reading files; it opens no connection and resolves no secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from roadbed.apps.manifest import AppConfig
from roadbed.gateway.providers import PROVIDERS, host_of
from roadbed.guard.access_files import POLICY_FOLDER, check_policies, policy_paths, read_policies
from roadbed.kernel.config import Document, KeyPath, decode, nearest, parse_duration_s, parse_yaml, read_yaml
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import parse_label
from roadbed.kernel.secrets import is_reference
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.releases.analytics_checks import check_analytics
from roadbed.releases.app_tool_checks import check_app_tools
from roadbed.releases.guard_section import check_guard
from roadbed.releases.limits import check_limits
from roadbed.releases.manifest import Manifest
from roadbed.releases.reach_checks import check_reach, left_out
from roadbed.releases.tool_checks import check_tools
from roadbed.sources.manifest import (
    DatabaseSource,
    DuckdbSource,
    FilesSource,
    McpSource,
    MysqlSource,
    PostgresSource,
    SourceConfig,
    SqliteSource,
)
from roadbed.tools.upstreams.errors import LockInvalid
from roadbed.tools.upstreams.lock import LOCK_NAME, read_lock

MANIFEST_NAME = "roadbed.yaml"
PROMPT_BYTES_MAX = 256 * 1024
RESERVED_NAMES = frozenset({"_routes", "system", "admin"})


@dataclass(frozen=True, slots=True)
class Workspace:
    """A checked workspace. ``prompts`` maps an app to the text of its prompt file, ``policies`` files to texts."""

    folder: Path
    manifest: Manifest
    document: Document
    prompts: dict[str, str]
    is_inferred: bool
    policies: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Settings that are accepted and have no effect, a line each: `roadbed check` and `roadbed up` say them."""
        return left_out(self.folder, self.manifest)

    def watched_files(self) -> list[Path]:
        """Files whose change makes a new release."""
        prompts = [self.folder / app.prompt for app in self.manifest.apps.values() if app.prompt]
        lock = [self.folder / LOCK_NAME] if self.lends_tools else []
        policies = [self.folder / POLICY_FOLDER, *policy_paths(self.folder)]
        return [self.folder / MANIFEST_NAME, *prompts, *lock, *policies]

    @property
    def lends_tools(self) -> bool:
        """Whether other MCP servers lend it tools."""
        return any(isinstance(source, McpSource) for source in self.manifest.sources.values())


def load_workspace(folder: Path, text: str | None = None) -> Workspace:
    """Read and check a workspace; ``text`` stands for the manifest's. Raises `ConfigError` (``others`` beside it)."""
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", hint="name an existing folder: roadbed up FOLDER")
    path = folder / MANIFEST_NAME
    is_inferred = text is None and not path.exists()
    if is_inferred:
        text = infer_manifest(folder)
    document = read_yaml(path) if text is None else parse_yaml(text)
    manifest = decode(document, Manifest)
    prompts: dict[str, str] = {}
    policies = read_policies(folder)
    errors = [*check_policies(policies), *_check(folder, manifest, document, prompts)]
    if errors:
        errors.sort(key=lambda error: error.line)
        errors[0].others = tuple(errors[1:])
        raise errors[0]
    return Workspace(folder, manifest, document, prompts, is_inferred, policies)


def workspace_name(folder: Path) -> str:
    """A manifest name made from the folder's name."""
    words = re.sub(r"[^a-zA-Z0-9]+", "-", folder.name).strip("-").lower()
    return (words if words[:1].isalpha() else f"w-{words}".rstrip("-"))[:63] or "workspace"


def infer_manifest(folder: Path) -> str:
    """The commented manifest that a folder without one is served by, and that ``roadbed init`` writes."""
    return f"""\
# The workspace: the only desired state. `roadbed check` validates it; a saved change serves within a second.
name: {workspace_name(folder)}

# Systems that hold data. Labels travel with the data and bound where it may go.
sources:
  documents:
    type: files
    path: .
    exclude: ["roadbed.yaml", "prompts/**"]
    labels: [internal]

# Documents of one or more sources, indexed together.
collections:
  documents: {{sources: [documents]}}

# AI features. `search` lists passages; `copilot` answers with citations, or says that it is not in the documents.
apps:
  search: {{kind: search, knowledge: [documents]}}
  copilot: {{kind: copilot, knowledge: [documents]}}

# Without a model, answers are verbatim cited sentences. A local engine (Ollama, llama.cpp, vLLM, LM Studio) is used
# when one answers on its usual port. To name a model: `roadbed models add openai`.
"""


def _check(folder: Path, manifest: Manifest, document: Document, prompts: dict[str, str]) -> Iterator[ConfigError]:
    yield from _check_names(manifest, document)
    for name, source in manifest.sources.items():
        yield from _check_source(folder, name, source, document)
    for name, collection in manifest.collections.items():
        yield from _check_collection(name, collection, manifest, document)
    yield from _check_models(manifest, document)
    for name, app in manifest.apps.items():
        yield from _check_app(folder, name, app, manifest, document, prompts)
    for name, team in manifest.teams.items():
        for i, app_name in enumerate(team.apps or ()):
            known = {*manifest.apps, *manifest.models}
            yield from _unknown(document, app_name, known, ("teams", name, "apps", i), "app or model")
    yield from check_limits(manifest, document)
    yield from check_tools(manifest, document)
    yield from check_app_tools(manifest, document)
    yield from check_reach(folder, manifest, document)
    yield from _check_lock(folder, manifest, document)
    yield from check_guard(folder, manifest, document)
    yield from _check_durations(manifest, document)


def _check_names(manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    for name in manifest.apps:
        if name in RESERVED_NAMES:
            yield document.error(f"the name `{name}` is reserved", ("apps", name))
        if name in manifest.models:
            yield document.error(
                f"`{name}` is an app and a model; callers could not tell them apart",
                ("models", name),
                hint="rename one",
            )


def _check_source(folder: Path, name: str, source: SourceConfig, document: Document) -> Iterator[ConfigError]:
    path: KeyPath = ("sources", name)
    yield from _check_labels(document, source.labels, (*path, "labels"))
    match source:
        case FilesSource():
            if not (folder / Path(source.path).expanduser()).is_dir():
                yield document.error(f"the folder {source.path} does not exist", (*path, "path"))
        case SqliteSource():
            if not (folder / Path(source.path).expanduser()).is_file():
                yield document.error(f"the file {source.path} does not exist", (*path, "path"))
        case MysqlSource():
            if not is_reference(source.dsn):
                yield document.error(
                    "`dsn` must be a reference, since it holds a password",
                    (*path, "dsn"),
                    hint="env:NAME or file:PATH",
                )
        case McpSource():
            if bool(source.url) == bool(source.command):
                yield document.error("an mcp source has either `url` or `command`", path)
            elif source.url and not _is_address(source.url):
                yield document.error("`url` must be an http or https address", (*path, "url"))
            for key, reference in (("key", source.key), *source.environment.items()):
                if reference and not is_reference(reference):
                    where = (*path, "key") if key == "key" and source.key == reference else (*path, "environment", key)
                    yield document.error(
                        f"`{key}` must be a reference, not the value itself", where, hint="env:NAME or file:PATH"
                    )
        case DuckdbSource():
            if bool(source.path) == bool(source.files):
                yield document.error("a duckdb source has either `path` or `files`", path)
            elif source.path and not (folder / Path(source.path).expanduser()).is_file():
                yield document.error(f"the file {source.path} does not exist", (*path, "path"))
        case PostgresSource():
            if not source.dsn.startswith("embedded:") and not is_reference(source.dsn):
                yield document.error(
                    "`dsn` must be a reference, since it holds a password",
                    (*path, "dsn"),
                    hint="env:NAME, file:PATH or embedded:NAME",
                )
            if source.seed and not source.dsn.startswith("embedded:"):
                yield document.error("`seed` is only for an embedded database", (*path, "seed"))
            elif source.seed and not (folder / source.seed).is_file():
                yield document.error(f"the file {source.seed} does not exist", (*path, "seed"))
        case _:
            pass


def _check_lock(folder: Path, manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    for name, source in manifest.sources.items():
        if isinstance(source, McpSource):
            try:
                read_lock(folder)
            except LockInvalid as error:
                yield document.error(error.message, ("sources", name), hint=error.hint)
            return


def _check_collection(
    name: str, collection: CollectionConfig, manifest: Manifest, document: Document
) -> Iterator[ConfigError]:
    known: set[str] = set()
    for source_name, source in manifest.sources.items():
        known.add(source_name)
        if isinstance(source, DatabaseSource):
            known.update(f"{source_name}.{table}" for table in source.tables)
    for i, source_name in enumerate(collection.sources):
        yield from _unknown(document, source_name, known, ("collections", name, "sources", i), "source")


def _check_models(manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    for name, endpoint in manifest.endpoints.items():
        if not all(is_reference(reference) for reference in endpoint.key_references):
            yield document.error(
                "`key` must be a reference, not the key itself",
                ("endpoints", name, "key"),
                hint="env:NAME or file:PATH",
            )
        if endpoint.url and not _is_address(endpoint.url):
            yield document.error("`url` must be an http or https address", ("endpoints", name, "url"))
        elif endpoint.url and "@" in endpoint.url.split("/")[2]:
            yield document.error(
                "`url` holds a user or password", ("endpoints", name, "url"), hint="name the key with `key: env:NAME`"
            )
        yield from _check_labels(document, endpoint.labels, ("endpoints", name, "labels"))
    for name, model in manifest.models.items():
        yield from _check_labels(document, model.labels, ("models", name, "labels"))
        for entry in model.endpoints():
            path = ("models", name, "ladder", model.ladder.index(entry)) if entry in model.ladder else ("models", name)
            if entry in manifest.models:
                yield document.error(f"`{entry}` is a model; a ladder names endpoints or provider/model", path)
            elif "/" not in entry:
                yield from _unknown(document, entry, set(manifest.endpoints), path, "endpoint")
            else:
                yield from _unknown(document, entry.partition("/")[0], set(PROVIDERS), path, "provider")


def _is_address(url: str) -> bool:
    return url.startswith(("http://", "https://")) and bool(host_of(url))


def _check_labels(document: Document, labels: list[str], path: KeyPath) -> Iterator[ConfigError]:
    try:
        parse_label(labels)
    except ConfigError as error:
        yield document.error(error.message, path, hint=error.hint)


def _check_app(
    folder: Path, name: str, app: AppConfig, manifest: Manifest, document: Document, prompts: dict[str, str]
) -> Iterator[ConfigError]:
    for i, collection in enumerate(app.knowledge):
        yield from _unknown(
            document, collection, set(manifest.collections), ("apps", name, "knowledge", i), "collection"
        )
    if app.kind == "analytics":
        yield from check_analytics(name, app, manifest, document)
    elif not app.knowledge and not app.tools:
        yield document.error(f"the app `{name}` needs `knowledge`", ("apps", name), hint="a list of collections")
    if app.model:
        path: KeyPath = ("apps", name, "model")
        yield from _unknown(document, app.model, set(manifest.models), path, "model")
        model = manifest.models.get(app.model)
        if model is not None and model.task != "chat":
            yield document.error(
                f"the app `{name}` cannot ask `{app.model}`: it is for {model.task}", path, hint="name a model for chat"
            )
    if app.prompt:
        file = folder / app.prompt
        try:
            if file.stat().st_size > PROMPT_BYTES_MAX:
                raise ValueError(f"is larger than {PROMPT_BYTES_MAX} bytes")
            prompts[name] = file.read_text(encoding="utf-8")
        except OSError:
            yield document.error(f"the prompt file {app.prompt} cannot be read", ("apps", name, "prompt"))
        except ValueError as error:
            reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
            yield document.error(f"the prompt file {app.prompt} {reason}", ("apps", name, "prompt"))


def _check_durations(manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    durations: list[tuple[KeyPath, str]] = [(("traces", "keep"), manifest.traces.keep)]
    durations += [(("apps", name, "deadline"), app.deadline) for name, app in manifest.apps.items()]
    durations += [(("models", name, "deadline"), model.deadline) for name, model in manifest.models.items()]
    for path, text in durations:
        if parse_duration_s(text) <= 0:
            yield document.error(f"`{path[-1]}` must be longer than nothing", path)


def _unknown(document: Document, name: str, known: set[str], path: KeyPath, noun: str) -> Iterator[ConfigError]:
    if name not in known:
        hint = nearest(name, known) or (f"known: {', '.join(sorted(known))}" if known else f"no {noun} is declared")
        yield document.error(f"there is no {noun} named `{name}`", path, hint=hint)
