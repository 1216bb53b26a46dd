"""CSV and TSV: delimiter and quoting found on the first 64 kB, then one labelled row block per record.

Called by ``dispatch``. Quoted newlines stay inside their record. The invariant: a file that is no table is still
read, as lines.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator

from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, canonical, one_line, stem
from roadbed.knowledge.parse.encoding import decode
from roadbed.knowledge.parse.sheet import CELLS_MAX, Row, add_sheet
from roadbed.knowledge.parse.versions import parser_name

PARSER = parser_name("csv")
SAMPLE_CHARS = 64 * 1024
FIELD_CHARS_MAX = 1_000_000
_DELIMITERS = ",\t;|"


def parse_delimited(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read a delimited file; the sheet name in locations is the file's stem."""
    text, encoding, certain = decode(data, declared=declared)
    builder = DocumentBuilder()
    if not certain:
        builder.warn(f"character encoding guessed: {encoding}")
    delimiter = find_delimiter(text[:SAMPLE_CHARS], "\t" if name.lower().endswith((".tsv", ".tab")) else ",")
    title = one_line(stem(name))
    builder.title = title
    add_sheet(builder, title, _rows(text, delimiter, builder), heading=False)
    return builder.finish(name=name, parser=PARSER, media_type="text/csv")


def find_delimiter(sample: str, usual: str) -> str:
    """The separator that splits the sample's records most evenly into more than one field; ``usual`` when none does.

    ``csv.Sniffer`` takes a letter for a separator when a column repeats, so the candidates are four.
    """
    if sample[:4].lower() == "sep=" and sample[4:5] in _DELIMITERS:
        return sample[4]
    best, best_score = usual, 0.0
    for candidate in sorted(_DELIMITERS, key=lambda char: char != usual):
        try:
            widths = [len(record) for record in islice_records(sample, candidate) if record]
        except csv.Error:
            continue
        # The last record may be cut by the end of the sample.
        widths = widths[:-1] if len(widths) > 2 else widths
        if not widths:
            continue
        width, count = Counter(widths).most_common(1)[0]
        score = count / len(widths) * min(width, 4) if width > 1 else 0.0
        if score > best_score + 0.05:
            best, best_score = candidate, score
    return best


def islice_records(sample: str, delimiter: str) -> list[list[str]]:
    """At most 200 records of a sample under a delimiter."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    return [record for _, record in zip(range(200), reader, strict=False)]


def _rows(text: str, delimiter: str, builder: DocumentBuilder) -> Iterator[Row]:
    csv.field_size_limit(FIELD_CHARS_MAX)
    if text[:4].lower() == "sep=":
        text = text[text.find("\n") + 1 :]
    records = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = cells = 0
    while True:
        number += 1
        try:
            record = next(records)
        except StopIteration:
            return
        except csv.Error:
            # An opening quote that never closes swallows the rest: say it, keep what came before.
            builder.warn(f"record {number} is broken and was left out")
            continue
        row = {column: value for column, field in enumerate(record, 1) if (value := one_line(canonical(field)))}
        cells += len(record)
        if row:
            yield number, row
        if cells > CELLS_MAX:
            builder.warn(f"only the first {CELLS_MAX} cells were read")
            return
