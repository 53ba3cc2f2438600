-- Run inside a transaction whose search_path is the schema of the store; see NOTES.md.

CREATE SEQUENCE counter AS bigint CACHE 1;

CREATE TABLE records (
    key     text COLLATE "C" NOT NULL PRIMARY KEY,
    version bigint           NOT NULL,
    format  integer          NOT NULL,
    kind    text COLLATE "C" NOT NULL,
    name    text COLLATE "C",
    places  text COLLATE "C" NOT NULL,
    data    json             NOT NULL
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX records_by_name ON records (name) WHERE name IS NOT NULL;

CREATE TABLE lists (
    list text COLLATE "C" NOT NULL,
    sort text COLLATE "C" NOT NULL,
    key  text COLLATE "C" NOT NULL,
    PRIMARY KEY (list, sort)
);

CREATE TABLE due (
    task     text COLLATE "C" NOT NULL PRIMARY KEY,
    rank     bigint           NOT NULL,
    lane     text COLLATE "C" NOT NULL,
    due_at   bigint           NOT NULL,
    holder   text COLLATE "C",
    ticket   bigint           NOT NULL,
    nudge_at bigint,
    note     text             NOT NULL,
    format   integer          NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX due_by_time ON due (lane, due_at, rank, task);

CREATE TABLE events (
    seq        bigint  NOT NULL PRIMARY KEY,
    at         bigint  NOT NULL,
    dependency text COLLATE "C",
    project    text COLLATE "C",
    format     integer NOT NULL,
    data       json    NOT NULL
);

CREATE INDEX events_by_time ON events (at, seq);
CREATE INDEX events_by_dependency ON events (dependency, seq) WHERE dependency IS NOT NULL;
CREATE INDEX events_by_project ON events (project, seq) WHERE project IS NOT NULL;

CREATE TABLE commits (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    at bigint           NOT NULL
);

CREATE INDEX commits_by_time ON commits (at, id);

INSERT INTO meta (name, value) VALUES ('event_base', '0');

-- The store's time: the database's, unless a time is given. clock_timestamp() goes on while a transaction waits for locks,
-- now() does not.
CREATE FUNCTION now_1(given bigint) RETURNS bigint
LANGUAGE sql VOLATILE
AS $$ SELECT coalesce(given, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) $$;

-- A time moved forward; the latest possible time where that overflows.
CREATE FUNCTION later_1(at bigint, after bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$ SELECT at + least(after, 8210266876799999999 - at) $$;

-- When a row is due whose claim ends: then, or earlier if a nudge said so, but not in the past, so that claims may begin where
-- they found the first row.
CREATE FUNCTION released_1(now_at bigint, at bigint, nudged bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE WHEN nudged IS NULL THEN at ELSE least(at, greatest(nudged, now_at)) END $$;

-- From where the store was or is being filled, and where everything in it went.
CREATE TABLE moves (
    way   text COLLATE "C" NOT NULL PRIMARY KEY CHECK (way IN ('from', 'to')),
    id    text             NOT NULL,
    what  text             NOT NULL,
    done  boolean          NOT NULL,
    -- Who moves now: of two who do, the later one goes on.
    token text
);

-- Refuses what is not to be used: half filled, or moved away. Its caller has locked `moves`, in a statement of its own: one that
-- waited for the lock sees only what was there before it waited.
CREATE FUNCTION usable_1() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
DECLARE
    found_way text;
    found_what text;
BEGIN
    SELECT m.way, m.what INTO found_way, found_what FROM moves m WHERE m.way = 'to' OR NOT m.done LIMIT 1;
    IF found_way = 'to' THEN
        RAISE EXCEPTION '%', found_what USING ERRCODE = 'CM005';
    ELSIF FOUND THEN
        RAISE EXCEPTION '%', found_what USING ERRCODE = 'CM004';
    END IF;
END $$;
