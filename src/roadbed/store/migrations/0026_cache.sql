-- Answers that are given again by every process (gateway/shared_answers.py). The key is a digest of all that an answer
-- depends on, the release among them; answer and reasoning are texts in which the guard found nothing.
-- compatible_from: 0020

CREATE TABLE cached_answer (
    key        bytea PRIMARY KEY,
    answer     text NOT NULL,
    reasoning  text NOT NULL,
    endpoint   text NOT NULL,
    model      text NOT NULL,
    size_bytes integer NOT NULL,
    made       timestamptz NOT NULL,
    expires    timestamptz NOT NULL
);
CREATE INDEX cached_answer_expires ON cached_answer (expires);
CREATE INDEX cached_answer_made ON cached_answer (made);
