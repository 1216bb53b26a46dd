-- compatible_from: 0065
-- Which reader (`READER` in knowledge/parse/versions.py) last tried a document without success (room knowledge/). With
-- `document.parser` it tells what an upgrade has still to read again. A later file makes `document`, hence no reference.
CREATE TABLE document_reader (
    document_id text PRIMARY KEY,
    reader      integer NOT NULL
);
