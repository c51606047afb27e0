-- What the demo's transactions write into.
CREATE TABLE demo (
    client int NOT NULL,
    written timestamptz NOT NULL DEFAULT now(),
    note text
);
