CREATE TABLE capomastro_meta (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO capomastro_meta (name, value) VALUES ('counter', 0);

CREATE TABLE capomastro_records (
    id      INTEGER PRIMARY KEY,
    key     TEXT    NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    format  INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    name    TEXT,
    places  TEXT    NOT NULL,
    data    TEXT    NOT NULL
) STRICT;

CREATE TABLE capomastro_names (
    name TEXT NOT NULL PRIMARY KEY,
    key  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE capomastro_lists (
    list TEXT NOT NULL,
    sort TEXT NOT NULL,
    key  TEXT NOT NULL,
    PRIMARY KEY (list, sort)
) STRICT, WITHOUT ROWID;

CREATE TABLE capomastro_due (
    task     TEXT    NOT NULL PRIMARY KEY,
    rank     INTEGER NOT NULL,
    lane     TEXT    NOT NULL,
    due_at   INTEGER NOT NULL,
    holder   TEXT,
    ticket   INTEGER NOT NULL,
    nudge_at INTEGER,
    note     TEXT    NOT NULL,
    format   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX capomastro_due_by_time ON capomastro_due (lane, due_at, rank);

CREATE TABLE capomastro_events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    dependency TEXT,
    project    TEXT,
    format     INTEGER NOT NULL,
    data       TEXT    NOT NULL
) STRICT;

CREATE INDEX capomastro_events_by_time ON capomastro_events (at);
CREATE INDEX capomastro_events_by_dependency ON capomastro_events (dependency, seq) WHERE dependency IS NOT NULL;
CREATE INDEX capomastro_events_by_project ON capomastro_events (project, seq) WHERE project IS NOT NULL;

CREATE TABLE capomastro_commits (
    id TEXT    NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX capomastro_commits_by_time ON capomastro_commits (at);
