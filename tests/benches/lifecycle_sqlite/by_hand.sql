CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('counter', 0);

CREATE TABLE dependency (id BLOB NOT NULL PRIMARY KEY, version INTEGER NOT NULL, name TEXT NOT NULL UNIQUE)
STRICT, WITHOUT ROWID;

CREATE TABLE state (
    id BLOB NOT NULL PRIMARY KEY, version INTEGER NOT NULL, epoch INTEGER NOT NULL, applied_ticket INTEGER NOT NULL,
    observed TEXT, observed_at INTEGER, accounted TEXT, accounted_how INTEGER, accounted_by BLOB, not_found INTEGER NOT NULL,
    health INTEGER NOT NULL, held_by BLOB, held_fence INTEGER, held_revision TEXT, held_epoch INTEGER, held_stopping INTEGER,
    held_since INTEGER, fence INTEGER NOT NULL, builds INTEGER NOT NULL, linked_build BLOB, linked_revision TEXT,
    ended_build BLOB, ended_phase INTEGER, last_start INTEGER, last_decision INTEGER, last_revision TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE build (
    id BLOB NOT NULL PRIMARY KEY, version INTEGER NOT NULL, dependency BLOB NOT NULL, number INTEGER NOT NULL,
    epoch INTEGER NOT NULL, launch_key BLOB NOT NULL, fence INTEGER NOT NULL, revision TEXT NOT NULL, display TEXT,
    causes TEXT NOT NULL, manual INTEGER NOT NULL, person_pinned INTEGER NOT NULL, attempt INTEGER NOT NULL,
    refusals INTEGER NOT NULL, launcher TEXT NOT NULL, job TEXT NOT NULL, phase INTEGER NOT NULL, sends INTEGER NOT NULL,
    external TEXT, previous_start INTEGER, requested_at INTEGER NOT NULL, launching_at INTEGER, submitted_at INTEGER,
    running_at INTEGER, ended_at INTEGER, good INTEGER NOT NULL, stood_until INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX build_of ON build (dependency, number);
CREATE UNIQUE INDEX build_holds ON build (dependency) WHERE ended_at IS NULL;
CREATE INDEX build_is_open ON build (id) WHERE ended_at IS NULL;
CREATE INDEX build_ended ON build (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX build_good ON build (dependency, epoch, revision, number) WHERE good;

CREATE TABLE due (
    kind INTEGER NOT NULL, id BLOB NOT NULL, lane TEXT NOT NULL, due_at INTEGER NOT NULL, holder TEXT, ticket INTEGER NOT NULL,
    nudge_at INTEGER, last_run INTEGER, PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX due_by_time ON due (lane, due_at, kind);

CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, dependency BLOB, project BLOB, kind INTEGER NOT NULL,
    build BLOB, revision TEXT, decision INTEGER, phase INTEGER, good INTEGER
) STRICT;
CREATE INDEX event_by_time ON event (at);
CREATE INDEX event_by_dependency ON event (dependency, seq) WHERE dependency IS NOT NULL;
CREATE INDEX event_by_project ON event (project, seq) WHERE project IS NOT NULL;

CREATE TABLE committed (id BLOB NOT NULL PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX committed_by_time ON committed (at);
