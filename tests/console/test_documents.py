"""Documents: sources and lists, one document at a passage, uploads, and who sees what."""

from __future__ import annotations

from starlette.testclient import TestClient

from roadbed.console.documents import PAGE_DOCUMENTS
from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.states import CollectionStats
from roadbed.sources.pool import PoolState
from roadbed.sources.registry import SourceHealth
from roadbed.sources.rights import Rights, rights_warning

from .conftest import CITED, NOW, QUOTE, Deployment, form_token, source, summary


def test_a_list_goes_on_behind_its_last_key(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.rows = [summary(number) for number in range(PAGE_DOCUMENTS + 7)]
    first = admin.get("/console/documents?source=handbook").text
    assert f"after=rates%2F{PAGE_DOCUMENTS - 1:03}.md" in first
    assert deployment.knowledge.asked[-1]["limit"] == PAGE_DOCUMENTS + 1
    second = admin.get(f"/console/documents?source=handbook&after=rates/{PAGE_DOCUMENTS - 1:03}.md").text
    assert second.count('class="row-link"') == 7
    assert 'rel="next"' not in second
    assert "First page" in second


def test_filters_are_in_the_address_and_passed_on(deployment: Deployment, admin: TestClient) -> None:
    page = admin.get("/console/documents?source=handbook&state=failed&from=zones/").text
    asked = deployment.knowledge.asked[-1]
    assert (asked["state"], asked["after_key"], asked["principal"]) == ("failed", "zones/", "k-admin")
    assert '<option value="failed" selected>' in page
    assert "fits this filter" in page
    admin.get("/console/documents?source=handbook&state=nonsense")
    assert deployment.knowledge.asked[-1]["state"] is None


def test_a_failed_document_says_why(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.rows = [
        summary(1, state="failed", reason="no_text", message="its pages are pictures", indexed_at=None)
    ]
    page = admin.get("/console/documents").text
    assert "<b>no text</b>: its pages are pictures" in page
    assert 'href="/console/documents/d1"' not in page


def test_a_source_that_is_held_says_how_to_go_on(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.sources = [source(state="held", message="900 of 1,000 documents are gone", held=900)]
    assert "roadbed ingest handbook --delete-held" in admin.get("/console/documents").text


def test_documents_that_no_collection_holds_are_told(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.rows = [summary(1, chunk_count=0)]
    assert "No collection holds handbook" in admin.get("/console/documents").text
    deployment.knowledge.collections = [CollectionStats("company", ("handbook",), 1, 1, 2)]
    assert "No collection holds" not in admin.get("/console/documents").text
    deployment.knowledge.collections, deployment.knowledge.rows = [], [summary(1)]
    assert "No collection holds" not in admin.get("/console/documents").text


def test_what_was_added_is_a_number_and_nobodys_words(admin: TestClient) -> None:
    assert "3 files were taken" in admin.get("/console/documents?added=3").text
    page = admin.get("/console/documents?added=Call+0800+now:+9").text
    assert "0800" not in page
    assert "taken" not in page.partition("<main")[2].partition("<table")[0]


def test_a_source_says_how_much_is_to_be_read_again_since_an_upgrade(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.sources = [source(outdated=2)]
    page = " ".join(admin.get("/console/documents").text.split())
    assert "2 of 3 to be read again since the upgrade" in page
    assert "data-live" in page


def test_a_passage_of_an_earlier_version_is_not_marked_and_the_page_says_so(admin: TestClient) -> None:
    place = f"/console/documents/d1?start={CITED[0]}&end={CITED[1]}"
    assert "<mark" in admin.get(f"{place}&version=v1").text
    page = admin.get(f"{place}&version=v0").text
    assert "has changed since it was cited" in page
    assert "<mark" not in page
    assert "To the passage" not in page


def test_a_document_opens_at_its_passage(admin: TestClient) -> None:
    page = admin.get(f"/console/documents/d1?start={CITED[0]}&end={CITED[1]}").text
    assert f'<mark id="passage" tabindex="-1">{QUOTE}</mark>' in page
    assert page.count("<mark") == 1
    assert "Rates &lt;1&gt;" in page
    assert "seen by everyone" in page
    assert "page 2" in page
    assert "words and meaning" in page


def test_a_markdown_document_is_shown_without_its_marks_but_for_code(deployment: Deployment, admin: TestClient) -> None:
    parsed = parse_bytes(
        b"# **Fees** of `2026`\n\nSee the [list](https://x.example/) of **all** <b>fees</b>.\n\n```\n**raw**\n```\n",
        name="fees.md",
    )
    deployment.knowledge.text, deployment.knowledge.blocks = parsed.text, parsed.blocks
    start = parsed.text.index("list")
    page = admin.get(f"/console/documents/d1?start={start}&end={parsed.text.index('<b>') - 3}").text
    text = page.split('id="text"')[1].split("</section>")[0]
    assert "<strong>Fees</strong> of <code>2026</code>" in text
    assert "&lt;b&gt;fees&lt;/b&gt;" in text
    assert (
        "https://x.example" not in admin.get("/console/documents/d1").text.split('id="text"')[1].split("</section>")[0]
    )
    assert "**raw**" in text
    assert text.count("<mark") == 1


def test_offsets_that_are_none_are_ignored(admin: TestClient) -> None:
    for query in ("start=x&end=y", "start=20&end=9", "start=-1&end=5", "start=9" * 40, "start=²&end=³"):
        answer = admin.get(f"/console/documents/d1?{query}")
        assert answer.status_code == 200, query
    assert "<mark" in admin.get("/console/documents/d1?start=9&end=99999999").text


def test_a_document_of_others_does_not_exist(admin: TestClient) -> None:
    hidden, unknown = admin.get("/console/documents/d2"), admin.get("/console/documents/nope")
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.text.replace("d2", "nope") == unknown.text


def test_a_long_document_is_shown_in_parts(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.text = "".join(f"line {number}\n" for number in range(20_000))
    deployment.knowledge.blocks = ()
    page = admin.get("/console/documents/d1").text
    assert "Later text" in page
    assert "Earlier text" not in page
    assert len(page) < 120_000
    middle = admin.get("/console/documents/d1?start=100000&end=100010").text
    assert "Earlier text" in middle
    assert '<mark id="passage"' in middle


def test_uploading(deployment: Deployment, admin: TestClient, member: TestClient) -> None:
    deployment.knowledge.sources = [source("inbox", kind="uploads")]
    page = admin.get("/console/documents").text
    assert 'type="file"' in page
    assert 'type="file"' not in member.get("/console/documents").text
    token = form_token(admin)
    answer = admin.post(
        "/console/documents",
        data={"form_token": token, "source": "inbox"},
        files=[("files", ("a.md", b"# A")), ("files", ("b.md", b"# B"))],
    )
    assert answer.headers["location"] == "/console/documents?source=inbox&added=2"
    assert deployment.knowledge.added == [("inbox", "a.md", b"# A"), ("inbox", "b.md", b"# B")]
    assert "2 files were taken" in admin.get(answer.headers["location"]).text
    nothing = admin.post("/console/documents", data={"form_token": token, "source": "inbox"})
    assert nothing.status_code == 400
    assert "console.no_file" in nothing.text
    refused = member.post(
        "/console/documents",
        data={"form_token": form_token(member), "source": "inbox"},
        files=[("files", ("c.md", b"# C"))],
    )
    assert refused.status_code == 403
    assert len(deployment.knowledge.added) == 2


def test_listing_again_and_reading_again(deployment: Deployment, admin: TestClient) -> None:
    token = form_token(admin)
    for action, call in (("sync", "sync handbook"), ("retry", "retry handbook")):
        answer = admin.post(f"/console/documents/{action}", data={"form_token": token, "source": "handbook"})
        assert answer.status_code == 303
        assert call in deployment.knowledge.calls


def test_an_upload_can_be_deleted(deployment: Deployment, admin: TestClient) -> None:
    assert "Delete this document" not in admin.get("/console/documents/d1").text
    deployment.knowledge.sources = [source("handbook", kind="uploads")]
    assert "Delete this document" in admin.get("/console/documents/d1").text
    data = {"form_token": form_token(admin), "source": "handbook"}
    assert admin.post("/console/documents/d1/delete", data=data).status_code == 303
    assert "delete d1" in deployment.knowledge.calls


def test_a_data_system_that_is_away_or_may_do_too_much_is_told_to_auditors(
    deployment: Deployment, auditor: TestClient, member: TestClient
) -> None:
    away = PoolState(4, 1, 0, 2, "open", 1.5, "the source crm refuses connections", NOW)
    writable = rights_warning(Rights("app", "crm", ("may change tables",)), ["public.users"])
    assert writable is not None
    deployment.connections = [
        SourceHealth("crm", "postgres", away, ()),
        SourceHealth("erp", "postgres", PoolState(4, 0, 1, 0, "closed", 0.0, "", None), (writable,)),
        SourceHealth("files", "sqlite", None, ()),
    ]
    page = auditor.get("/console/documents").text
    assert "the source crm refuses connections" in page
    assert "asked again in 1.5 s" in page
    assert "1 of 4" in page
    assert "erp: its role app may change tables" in page
    assert "GRANT SELECT ON &#34;public&#34;.&#34;users&#34; TO roadbed_reader;" in page
    assert "not asked yet" in page
    assert "crm" not in member.get("/console/documents").text
