"""Turns one text (headings, paragraphs, lists, tables) into Markdown, HTML, PDF or DOCX.

The text is a small part of Markdown, parsed by `parse`. Nothing here depends on the clock: ZIP members get
`ZIP_TIME`, and PDF files carry the date of their text and no compression, since the bytes of deflate differ between
builds of zlib.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime

ZIP_TIME = (2026, 1, 1, 0, 0, 0)
PDF_PAGE_MM = 170
PDF_HEADING_ROOM_MM = 30


@dataclass(frozen=True)
class Text:
    """A document before it has a format: where it goes, its title, the line under the title, its blocks."""

    path: str
    title: str
    subtitle: str
    date: str
    body: str


@dataclass(frozen=True)
class Block:
    """One block: `heading`, `paragraph`, `bullets`, `numbers`, `code` or `table`; a table's lines are joined by `|`."""

    kind: str
    lines: tuple[str, ...]


def read_text(source: str, values: dict[str, str]) -> Text:
    """Parses a text file: `name: value` lines, an empty line, the body. `values` fill its `{name}` places."""
    head, body = source.split("\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    for name, value in values.items():
        body = body.replace("{" + name + "}", value)
    subtitle = f"{fields['code']}, version {fields['version']}, {fields['date']}, owner: {fields['owner']}"
    return Text(fields["path"], fields["title"], subtitle, fields["date"], body.strip())


def parse(body: str) -> list[Block]:
    """The blocks of a body, in order."""
    blocks: list[Block] = []
    for part in re.split(r"\n\s*\n", body):
        lines = part.splitlines()
        first = lines[0]
        if first.startswith("## "):
            blocks.append(Block("heading", (first[3:],)))
        elif first.startswith("    "):
            blocks.append(Block("code", tuple(line.strip() for line in lines)))
        elif first.startswith("- "):
            blocks.append(Block("bullets", tuple(line[2:] for line in lines)))
        elif re.match(r"\d+\. ", first):
            blocks.append(Block("numbers", tuple(line.split(". ", 1)[1] for line in lines)))
        elif first.startswith("|"):
            rows = [re.sub(r"\s*\|\s*", "|", line.strip("| ")) for line in lines if not line.startswith("|---")]
            blocks.append(Block("table", tuple(rows)))
        else:
            blocks.append(Block("paragraph", (" ".join(lines),)))
    return blocks


def write(text: Text) -> bytes:
    """The text in the format that its path ends with."""
    ending = text.path.rsplit(".", 1)[1]
    return {"md": write_markdown, "html": write_html, "pdf": write_pdf, "docx": write_docx}[ending](text)


def write_markdown(text: Text) -> bytes:
    """Markdown: the body is already in it."""
    return f"# {text.title}\n\n*{text.subtitle}*\n\n{text.body}\n".encode()


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text, quote=False))


def write_html(text: Text) -> bytes:
    """A page with the office's menu and footer around the text, as an intranet would serve it."""
    out = []
    for block in parse(text.body):
        if block.kind == "heading":
            out.append(f"<h2>{_inline(block.lines[0])}</h2>")
        elif block.kind in ("bullets", "numbers"):
            tag = "ul" if block.kind == "bullets" else "ol"
            out.append(f"<{tag}>\n" + "\n".join(f"<li>{_inline(line)}</li>" for line in block.lines) + f"\n</{tag}>")
        elif block.kind == "code":
            out.append("<pre><code>" + html.escape("\n".join(block.lines), quote=False) + "</code></pre>")
        elif block.kind == "table":
            rows = [[_inline(cell) for cell in line.split("|")] for line in block.lines]
            head = "<tr>" + "".join(f"<th>{cell}</th>" for cell in rows[0]) + "</tr>"
            lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[1:]]
            out.append("<table>\n<thead>" + head + "</thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>")
        else:
            out.append(f"<p>{_inline(block.lines[0])}</p>")
    title = _inline(text.title)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="date" content="{text.date}">
<style>body {{ font-family: sans-serif; max-width: 44em }} td, th {{ padding: 0.2em 0.8em; text-align: left }}</style>
</head>
<body>
<nav><a href="/">Intranet</a> <a href="/handbook">Handbook</a> <a href="/people">People</a></nav>
<main>
<h1>{title}</h1>
<p><em>{_inline(text.subtitle)}</em></p>
{chr(10).join(out)}
</main>
<footer>Bruvang Appraisal Office, for internal use</footer>
</body>
</html>
"""
    return page.encode()


def write_pdf(text: Text) -> bytes:
    """A4 pages with a running header, page numbers and real tables; the core fonts, so that no font file is needed."""
    from fpdf import FPDF, FontFace

    class Paper(FPDF):
        def header(self) -> None:
            self.set_font("helvetica", size=8)
            self.cell(0, 6, "Bruvang Appraisal Office", align="R", new_x="LMARGIN", new_y="NEXT")

        def footer(self) -> None:
            self.set_y(-14)
            self.set_font("helvetica", size=8)
            self.cell(0, 6, f"Page {self.page_no()}", align="C")

    pdf = Paper(format="A4")
    pdf.set_compression(False)
    pdf.set_creation_date(datetime.fromisoformat(text.date).replace(tzinfo=UTC))
    pdf.set_title(text.title)
    pdf.set_margins(20, 16, 20)
    pdf.add_page()
    pdf.set_font("helvetica", "B", 18)
    pdf.multi_cell(PDF_PAGE_MM, 9, text.title, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", "I", 9)
    pdf.multi_cell(PDF_PAGE_MM, 6, text.subtitle, new_x="LMARGIN", new_y="NEXT")
    for block in parse(text.body):
        pdf.ln(2.5)
        pdf.set_font("helvetica", size=10.5)
        if block.kind == "heading":
            if pdf.will_page_break(PDF_HEADING_ROOM_MM):
                pdf.add_page()
            pdf.set_font("helvetica", "B", 13)
            pdf.multi_cell(PDF_PAGE_MM, 7, block.lines[0], new_x="LMARGIN", new_y="NEXT")
        elif block.kind == "table":
            style = FontFace(emphasis="BOLD")
            rows = [line.split("|") for line in block.lines]
            widths = tuple(min(60, max(len(row[column]) for row in rows) + 3) for column in range(len(rows[0])))
            with pdf.table(
                width=PDF_PAGE_MM, line_height=6, headings_style=style, text_align="LEFT", col_widths=widths
            ) as table:
                for row in rows:
                    table.row(row)
        else:
            for number, line in enumerate(block.lines, start=1):
                mark = {"bullets": "- ", "numbers": f"{number}. "}.get(block.kind, "")
                is_marked = block.kind != "code"
                pdf.multi_cell(PDF_PAGE_MM, 5.4, mark + line, markdown=is_marked, new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())


def write_docx(text: Text) -> bytes:
    """A Word file with real headings, lists and tables."""
    import docx

    document = docx.Document()
    properties = document.core_properties
    moment = datetime.fromisoformat(text.date)
    properties.title, properties.author = text.title, "Bruvang Appraisal Office"
    properties.created = properties.modified = moment
    properties.last_modified_by, properties.revision, properties.comments = "Bruvang Appraisal Office", 1, ""
    document.add_heading(text.title, level=0)
    document.add_paragraph().add_run(text.subtitle).italic = True
    for block in parse(text.body):
        if block.kind == "heading":
            document.add_heading(block.lines[0], level=1)
        elif block.kind == "table":
            rows = [line.split("|") for line in block.lines]
            table = document.add_table(rows=len(rows), cols=len(rows[0]), style="Table Grid")
            for row_number, row in enumerate(rows):
                for cell_number, cell in enumerate(row):
                    table.cell(row_number, cell_number).text = cell
        else:
            style = {"bullets": "List Bullet", "numbers": "List Number"}.get(block.kind)
            for line in block.lines:
                paragraph = document.add_paragraph(style=style)
                for number, run in enumerate(line.split("**")):
                    paragraph.add_run(run).bold = number % 2 == 1
    stream = io.BytesIO()
    document.save(stream)
    return fixed_zip(stream.getvalue())


def fixed_zip(data: bytes, changed: dict[str, bytes] | None = None) -> bytes:
    """The same ZIP with every member's time set to `ZIP_TIME`; `changed` replaces members by name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = (changed or {}).get(name) or source.read(name)
            member = zipfile.ZipInfo(name, ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            member.create_system = 3
            target.writestr(member, content)
    return stream.getvalue()
