"""The app kind ``analytics``: a question becomes checked statements on databases, and their rows the answer.

With a model: plan, statements, at most one repair, checks, and a sentence whose numbers are the table's, or no
sentence. Without one: declared and saved questions by their words, or an honest list of what can be answered. The
invariant: what is shown is what a statement returned that is shown beside it; a model writes no number of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from msgspec import structs

from roadbed.apps.analytics_checks import notes_of, period_note
from roadbed.apps.analytics_desk import Desk, Part, Prepared, Ran, SourceHidden
from roadbed.apps.analytics_manifest import PartConfig, QuestionConfig
from roadbed.apps.analytics_match import Match, Wording, match, missing, values_in
from roadbed.apps.analytics_parameters import ParameterInvalid, check_values, fill
from roadbed.apps.analytics_plan import Asks, Plan, PlanInvalid, Reply, check_plan, compile_plan, read_reply
from roadbed.apps.analytics_prompt import has_asked_back, plan_messages, repair_messages, sentence_messages
from roadbed.apps.analytics_sentence import plain_sentence, refusal_of
from roadbed.apps.analytics_shown import Shown, citations_of, object_of, text_of
from roadbed.apps.analytics_table import Table
from roadbed.apps.answer_limit import AnswerCut, limited
from roadbed.apps.followup import NoQuestion, question_of
from roadbed.apps.manifest import AppConfig
from roadbed.apps.types import Answered, AnswerEvent, Cited, Delta, Rung, Turn, lowest_rung
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, Message
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, NotFound, RoadbedError, Unavailable
from roadbed.kernel.label import Label
from roadbed.sources.catalogue import Catalogue
from roadbed.sources.errors import QueryRefused, ResultTooLarge
from roadbed.tools.sql.errors import SqlRefused

REPAIRS_MAX = 1
OFFERS_MAX = 12
CONVERSATION_CHARACTERS_MAX = 100_000
CATALOGUE_SHARE = 0.3
RUN_SHARE = 0.6
CHECKS_SHARE = 0.3
CHECKS_S_MAX = 5.0
CHECKED_PARTS_MAX = 2
MENDABLE = (PlanInvalid, SqlRefused, QueryRefused, ResultTooLarge, ParameterInvalid)


class UnknownQuestion(NotFound):
    """The app has no declared or saved question of this name for this caller."""

    code = "apps.unknown_question"
    hint = "list them: roadbed analytics questions APP, or GET /api/analytics/{app}/questions"


@dataclass(frozen=True, slots=True)
class Kept:
    """A result that a schedule kept. ``taken`` counts seconds from 1970."""

    table: Table
    ran: Ran
    taken: float


@dataclass(frozen=True, slots=True)
class Known:
    """A saved question of a team, as a turn needs it."""

    name: str
    prepared: Prepared
    kept: Kept | None = None


class SavedQuestions(Protocol):
    """The saved questions of a team."""

    async def known(self, app: str, turn: Turn) -> Sequence[Known]:
        """Those that the turn's caller may run, with what was kept of them that the caller may see."""
        ...


@dataclass(slots=True)
class _Work:
    """One turn's question on its way."""

    turn: Turn
    question: str
    degraded: list[str]
    rung: Rung = "full"

    def lower(self, rung: Rung) -> None:
        self.rung = lowest_rung(self.rung, rung)


class AnalyticsApp:
    """One release of an analytics app. ``route`` finds the model route to ask just now; None when there is none."""

    def __init__(
        self,
        config: AppConfig,
        prompt: str,
        *,
        desk: Callable[[], Desk | None],
        saved: Callable[[], SavedQuestions | None],
        gateway: Gateway,
        guard: Callable[[], Guard],
        route: Callable[[], Route | None],
    ) -> None:
        self.config = config
        self._prompt = prompt
        self._find_desk = desk
        self._saved = saved
        self._gateway = gateway
        self._guard = guard
        self._route = route

    async def answer(self, turn: Turn) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a turn. Raises `NoQuestion`, `SourceHidden`, `Unavailable`."""
        question = question_of(turn.request.messages)
        if not question:
            raise NoQuestion("there is no question in the messages", param="messages")
        turn.trace.question = self._guard().for_record(question)
        work = _Work(turn, question, [])
        known = await self._known(work)
        found = match(question, self._wordings(known))
        route = self._route()
        if route is None or found.is_exact:
            shown = await self._by_words(work, found, known)
        else:
            try:
                shown = await self._with_model(work, route)
            except (Unavailable, DeadlineExceeded) as error:
                if turn.deadline.has_passed():
                    raise
                work.degraded.append(f"model {route.name}: {error.code}")
                shown = await self._by_words(work, found, known)
        for event in self._events(work, shown):
            yield event

    async def run(self, turn: Turn, name: str, given: Mapping[str, Any]) -> AsyncGenerator[AnswerEvent, None]:
        """Run a declared or saved question by its name. As `answer`, and `UnknownQuestion`, `ParameterInvalid`."""
        work = _Work(turn, name, [])
        turn.trace.question = self._guard().for_record(name)
        known = await self._known(work)
        for event in self._events(work, await self._run_known(work, name, given, known)):
            yield event

    async def run_prepared(self, turn: Turn, prepared: Prepared) -> AsyncGenerator[AnswerEvent, None]:
        """Run statements that the app answered with before; the caller has checked their seal."""
        work = _Work(turn, prepared.title, [])
        turn.trace.question = self._guard().for_record(prepared.title)
        shown = Shown(prepared=prepared)
        await self._run_into(work, shown, None)
        for event in self._events(work, shown):
            yield event

    @property
    def _desk(self) -> Desk:
        desk = self._find_desk()
        if desk is None:
            raise SourceHidden("this deployment has no connections to databases")
        return desk

    def _today(self) -> date:
        return datetime.now(UTC).astimezone(ZoneInfo(self.config.time_zone)).date()

    # -- declared and saved questions ---------------------------------------------------------------------------------

    async def _known(self, work: _Work) -> dict[str, Known]:
        saved = self._saved()
        if saved is None:
            return {}
        try:
            return {one.name: one for one in await saved.known(work.turn.app, work.turn)}
        except (Unavailable, DeadlineExceeded) as error:
            work.degraded.append(f"saved questions: {error.code}")
            return {}

    def _wordings(self, known: Mapping[str, Known]) -> list[Wording]:
        wordings = [
            Wording(name, text)
            for name, question in self.config.questions.items()
            for text in (question.title, *question.also)
        ]
        return [*wordings, *(Wording(name, one.prepared.title) for name, one in known.items())]

    def _title(self, name: str, known: Mapping[str, Known]) -> str:
        declared = self.config.questions.get(name)
        return declared.title if declared is not None else known[name].prepared.title

    async def _by_words(self, work: _Work, found: Match, known: Mapping[str, Known]) -> Shown:
        """The question that the words mean, or what can be asked."""
        if not found.is_exact:
            work.lower("extractive")
        if not found.name:
            names = [*found.near, *(name for name in (*self.config.questions, *known) if name not in found.near)]
            offers = [self._title(name, known) for name in names[:OFFERS_MAX]]
            words = "I cannot answer this without a model." if self._route() is None or work.degraded else ""
            return Shown(words=words or "I cannot answer this.", offers=offers)
        declared = self.config.questions.get(found.name)
        given = values_in(work.question, declared.parameters) if declared is not None else {}
        if declared is not None and (names := missing(declared.parameters, given)):
            parameter = declared.parameters[names[0]]
            asks = Asks(
                f"{parameter.description or names[0]}, for “{declared.title}”", [str(v) for v in parameter.values[:6]]
            )
            return Shown(asks=asks, question=found.name)
        return await self._run_known(work, found.name, given, known)

    async def _run_known(self, work: _Work, name: str, given: Mapping[str, Any], known: Mapping[str, Known]) -> Shown:
        declared, saved = self.config.questions.get(name), known.get(name)
        if declared is not None:
            values = check_values(declared.parameters, given)
            shown = Shown(prepared=self._prepared(declared, values), question=name, values=values)
        elif saved is not None:
            shown = Shown(prepared=saved.prepared, question=name)
        else:
            raise UnknownQuestion(f"there is no question {name[:64]!r}")
        await self._run_into(work, shown, saved.kept if saved is not None and declared is None else None)
        return shown

    def _prepared(self, question: QuestionConfig, values: Mapping[str, Any]) -> Prepared:
        parts: Mapping[str, PartConfig] = question.parts or {"result": PartConfig(question.source, question.sql)}
        made = []
        for name, part in parts.items():
            dialect = self._desk.dialect(part.source)
            made.append(Part(name, part.source, fill(part.sql, question.parameters, values, dialect)))
        join = fill(question.join, question.parameters, values, "duckdb") if question.join else ""
        return Prepared(question.title, tuple(made), join, question.chart, question.unit)

    async def _run_into(self, work: _Work, shown: Shown, kept: Kept | None) -> None:
        """Run what was prepared, with checks; what a schedule kept stands in for a source that is away."""
        assert shown.prepared is not None
        try:
            ran = await self._run(work, shown.prepared)
        except MENDABLE as error:
            shown.failure, shown.words = error, f"The statement was refused: {error.message}."
            work.degraded.append(f"statement: {error.code}")
            work.lower("refused")
            return
        if ran.table is None and kept is not None:
            shown.table, shown.cites, shown.missing = kept.table, kept.ran.cites, ran.missing
            shown.age_s = max(0.0, datetime.now(UTC).timestamp() - kept.taken)
            work.turn.trace.attributes["cache_age_s"] = shown.age_s
            work.degraded += [f"source {one.source}: {one.code}" for one in ran.missing]
            work.lower("cached")
            return
        await self._take(work, shown, ran)
        if shown.table is not None:
            shown.sentence = plain_sentence(shown.prepared.title, shown.table, shown.prepared.unit)

    # -- with a model -------------------------------------------------------------------------------------------------

    async def _with_model(self, work: _Work, route: Route) -> Shown:
        turn, desk = work.turn, self._desk
        if sum(len(message.text()) for message in turn.request.messages) > CONVERSATION_CHARACTERS_MAX:
            raise InvalidRequest("the messages are too long", param="messages")
        names = desk.visible(self.config.sources, turn.principal)
        if not names:
            raise SourceHidden("you may not ask any of this app's databases")
        deadline = turn.deadline.share(CATALOGUE_SHARE)
        catalogues, away = await desk.catalogues(names, turn.principal, deadline)
        if not catalogues:
            work.degraded += [f"source {one.source}: {one.code}" for one in away]
            work.lower("refused")
            return Shown(missing=away, words="No database of this app answers now.")
        masks = {name: desk.explorer(name, turn.principal).config.mask for name in catalogues}
        messages = plan_messages(self._prompt, self.config, catalogues, masks, turn.request.messages, self._today())
        label = await asyncio.to_thread(self._label, turn, names)
        text = await self._ask(work, route, messages, label)
        shown = Shown()
        for attempt in range(REPAIRS_MAX + 1):
            try:
                done = await self._follow(work, shown, read_reply(text, names), catalogues, names)
            except MENDABLE as error:
                if attempt == REPAIRS_MAX:
                    return self._given_up(work, shown, error)
                turn.trace.attributes["repairs"] = attempt + 1
                why = f"{error.code}: {error.message}. {error.hint}"
                text = await self._ask(work, route, repair_messages(messages, text, why), label)
                continue
            if done and shown.table is not None and shown.table.rows:
                await self._say(work, route, shown, label)
            return shown
        raise AssertionError("the last attempt returns")

    async def _follow(
        self, work: _Work, shown: Shown, reply: Reply, catalogues: Mapping[str, Catalogue], names: Sequence[str]
    ) -> bool:
        """Do what the model's reply says; whether there is a result."""
        if isinstance(reply, Asks):
            if has_asked_back(work.turn.request.messages):
                raise PlanInvalid("you have asked back before", hint="choose the likeliest reading and say it in title")
            shown.asks = reply
            return False
        if isinstance(reply, str):
            shown.words = "These databases cannot answer this."
            shown.notes = [self._guard().for_index(reply, Label()).text.rstrip(".")] if reply else []
            shown.offers = [question.title for question in self.config.questions.values()][:OFFERS_MAX]
            return False
        check_plan(reply, self.config, names)
        plan = self._compiled(reply, catalogues)
        shown.plan = plan
        unit = self.config.metrics[plan.metrics[0]].unit if len(plan.metrics) == 1 else ""
        parts = tuple(Part(query.name if plan.join else "result", query.source, query.sql) for query in plan.queries)
        shown.prepared = Prepared(plan.title or work.question[:300], parts, plan.join, "auto", unit)
        ran = await self._run(work, shown.prepared)
        await self._take(work, shown, ran)
        return shown.table is not None

    def _compiled(self, plan: Plan, catalogues: Mapping[str, Catalogue]) -> Plan:
        if plan.queries:
            return plan
        source = self.config.metrics[plan.metrics[0]].source
        if source not in catalogues:
            raise PlanInvalid(f"the source {source} of the metric is away", hint="use another source, if one will do")
        return compile_plan(plan, self.config, catalogues[source])

    def _given_up(self, work: _Work, shown: Shown, error: RoadbedError) -> Shown:
        work.degraded.append(f"statement: {error.code}")
        work.lower("refused")
        return Shown(
            prepared=shown.prepared,
            plan=shown.plan,
            failure=error,
            words=f"I could not write a statement that may run: {error.message}.",
        )

    async def _ask(self, work: _Work, route: Route, messages: Sequence[Message], label: Label) -> str:
        turn = work.turn
        request = structs.replace(
            turn.request,
            messages=tuple(messages),
            tools=(),
            tool_choice=None,
            response_format=None,
            max_tokens=None,
        )
        request = limited(request, self.config.answer_tokens_max)
        answer, outcome = await self._gateway.complete(
            route, request, Call(turn.principal, turn.deadline, label, turn.trace)
        )
        work.lower(outcome.rung)
        work.degraded += outcome.missing
        if answer.finish_reason == "length":  # half a plan is none, and half a sentence says something else
            raise AnswerCut(f"the answer of {route.name} reached its limit of tokens")
        return answer.text

    async def _say(self, work: _Work, route: Route, shown: Shown, label: Label) -> None:
        """The model's sentence over the table, if its numbers are the table's."""
        assert shown.table is not None
        assert shown.prepared is not None
        messages = sentence_messages(work.question, shown.table, shown.notes)
        try:
            text = (await self._ask(work, route, messages, label)).strip()
        except (Unavailable, DeadlineExceeded) as error:
            work.degraded.append(f"model {route.name}: {error.code}")
            work.lower("extractive")
            return
        refusal = refusal_of(text, shown.table, shown.prepared.statements)
        if refusal:
            work.turn.trace.attributes["sentence_dropped"] = True
            work.degraded.append("sentence: its numbers are not the table's")
            work.lower("extractive")
            shown.sentence = plain_sentence(shown.prepared.title, shown.table, shown.prepared.unit)
        else:
            shown.sentence = text

    def _label(self, turn: Turn, names: Sequence[str]) -> Label:
        conversation = "\n\n".join(message.text() for message in turn.request.messages)
        return self._desk.label(names).join(self._guard().for_index(conversation, Label()).label)

    # -- running and showing ------------------------------------------------------------------------------------------

    async def _run(self, work: _Work, prepared: Prepared) -> Ran:
        turn = work.turn
        with turn.trace.span("statements", "tool", sources=", ".join(prepared.sources)) as span:
            ran = await self._desk.run(prepared, turn.principal, turn.deadline.share(RUN_SHARE))
            rows = len(ran.table.rows) if ran.table is not None else 0
            span.set(rows=rows, missing=", ".join(one.source for one in ran.missing))
        turn.trace.masked_count += ran.masked_count
        return ran

    async def _take(self, work: _Work, shown: Shown, ran: Ran) -> None:
        """A result into what is shown, with its checks."""
        work.turn.trace.label = work.turn.trace.label.join(ran.label)
        shown.table, shown.cites, shown.missing = ran.table, ran.cites, ran.missing
        work.degraded += [f"source {one.source}: {one.code}" for one in ran.missing]
        if ran.table is None:
            work.lower("refused")
            shown.words = f"{', '.join(one.source for one in ran.missing)} does not answer, so there is no result."
            return
        if ran.missing:
            work.lower("partial")
            shown.notes.append("this is a part of the answer: the results could not be joined")
        cut = [cite.source for cite in ran.cites if cite.is_truncated and shown.prepared and shown.prepared.join]
        if cut:
            work.lower("partial")
            work.degraded += [f"source {source}: truncated" for source in cut]
            shown.notes.append(f"the join saw only the first rows of {', '.join(cut)}")
        if ran.table.is_truncated:
            shown.notes.append(f"there are more than these {len(ran.table.rows)} rows")
        shown.notes += ran.table.notes
        note = period_note(shown.plan, self._today())
        shown.notes += [note] if note else []
        shown.notes += await self._checked(work, shown)

    async def _checked(self, work: _Work, shown: Shown) -> list[str]:
        assert shown.prepared is not None
        assert shown.table is not None
        deadline = work.turn.deadline.share(CHECKS_SHARE, at_most_s=CHECKS_S_MAX)
        notes: list[str] = []
        for part in shown.prepared.parts[:CHECKED_PARTS_MAX]:
            if any(one.source == part.source for one in shown.missing):
                continue
            explorer = self._desk.explorer(part.source, work.turn.principal)

            async def probe(sql: str, explorer: Any = explorer) -> Sequence[Sequence[Any]]:
                _, result = await explorer.read(sql, work.turn.principal, deadline, rows_max=50)
                rows: Sequence[Sequence[Any]] = result.rows
                return rows

            with work.turn.trace.span("checks", "app", source=part.source) as span:
                found = await notes_of(part.sql, explorer.dialect, shown.table, probe)
                span.set(notes=len(found))
            notes += [self._guard().for_index(note, Label()).text for note in found]
        return notes

    def _events(self, work: _Work, shown: Shown) -> list[AnswerEvent]:
        turn = work.turn
        if shown.prepared is not None and shown.failure is None:
            shown.seal = self._desk.seal(turn.app, turn.principal, shown.prepared)
        citations = citations_of(shown.cites)
        text = text_of(shown)
        turn.trace.answer = self._guard().for_record(text)
        turn.trace.rung = work.rung
        answered = Answered(
            text=text,
            citations=citations,
            rung=work.rung,
            degraded=tuple(dict.fromkeys(work.degraded)),
            usage=tuple(turn.trace.usage),
            abstained=shown.table is None and shown.asks is None,
            extra={"analytics": object_of(shown), "table": shown.table},
        )
        return [*(Cited(citation) for citation in citations), Delta(text), answered]
