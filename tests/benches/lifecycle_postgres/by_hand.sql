CREATE SEQUENCE counter;
CREATE TABLE dependency (id uuid PRIMARY KEY, version bigint NOT NULL, name text NOT NULL UNIQUE);

CREATE TABLE state (
    id uuid PRIMARY KEY, version bigint NOT NULL, epoch int NOT NULL, applied_ticket bigint NOT NULL,
    observed text, observed_at timestamptz, accounted text, accounted_how smallint, accounted_by uuid, not_found int NOT NULL,
    health smallint NOT NULL, held_by uuid, held_fence bigint, held_revision text, held_epoch int, held_stopping boolean,
    held_since timestamptz, fence bigint NOT NULL, builds bigint NOT NULL, linked_build uuid, linked_revision text,
    ended_build uuid, ended_phase smallint, last_start timestamptz, last_decision smallint, last_revision text
) WITH (fillfactor = 70);

CREATE TABLE build (
    id uuid PRIMARY KEY, version bigint NOT NULL, dependency uuid NOT NULL, number bigint NOT NULL,
    epoch int NOT NULL, launch_key uuid NOT NULL, fence bigint NOT NULL, revision text NOT NULL, display text,
    causes text NOT NULL, manual boolean NOT NULL, person_pinned boolean NOT NULL, attempt int NOT NULL,
    refusals int NOT NULL, launcher text NOT NULL, job text NOT NULL, phase smallint NOT NULL, sends int NOT NULL,
    external text, previous_start timestamptz, requested_at timestamptz NOT NULL, launching_at timestamptz,
    submitted_at timestamptz, running_at timestamptz, ended_at timestamptz, good boolean NOT NULL, stood_until timestamptz
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX build_of ON build (dependency, number);
CREATE UNIQUE INDEX build_holds ON build (dependency) WHERE ended_at IS NULL;
CREATE INDEX build_is_open ON build (id) WHERE ended_at IS NULL;
CREATE INDEX build_ended ON build (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX build_good ON build (dependency, epoch, revision, number) WHERE good;

CREATE TABLE due (
    kind smallint NOT NULL, id uuid NOT NULL, lane text NOT NULL, due_at timestamptz NOT NULL, holder text, ticket bigint NOT NULL,
    nudge_at timestamptz, last_run timestamptz, PRIMARY KEY (kind, id)
) WITH (fillfactor = 70);
CREATE INDEX due_by_time ON due (lane, due_at, kind);

CREATE TABLE event (
    seq bigserial PRIMARY KEY, at timestamptz NOT NULL, dependency uuid, project uuid, kind smallint NOT NULL,
    build uuid, revision text, decision smallint, phase smallint, good boolean
);
CREATE INDEX event_by_time ON event (at);
CREATE INDEX event_by_dependency ON event (dependency, seq) WHERE dependency IS NOT NULL;
CREATE INDEX event_by_project ON event (project, seq) WHERE project IS NOT NULL;

CREATE TABLE committed (id uuid PRIMARY KEY, at timestamptz NOT NULL);
CREATE INDEX committed_by_time ON committed (at);
