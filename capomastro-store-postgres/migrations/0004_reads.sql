-- What reads. Functions too, so that their plans are made once in a session and not at each call.

-- The records of some keys and the due rows of some tasks, with the time. There is one row at least.
CREATE FUNCTION get_1(keys text[], tasks text[], given bigint)
RETURNS TABLE (
    at bigint, key text, version bigint, format integer, data text,
    task text, lane text, due_at bigint, holder text, ticket bigint, nudge_at bigint, note text
)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET plan_cache_mode = 'force_generic_plan'
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    -- One statement, and so one snapshot.
    IF cardinality(tasks) = 0 THEN
        RETURN QUERY
        SELECT t.at, r.key, r.version, r.format, r.data::text,
               NULL::text, NULL::text, NULL::bigint, NULL::text, NULL::bigint, NULL::bigint, NULL::text
        FROM (SELECT now_1(given) AS at OFFSET 0) t LEFT JOIN records r ON r.key = ANY (keys);
    ELSE
        RETURN QUERY
        SELECT t.at, x.*
        FROM (SELECT now_1(given) AS at OFFSET 0) t
        LEFT JOIN (
            SELECT r.key, r.version, r.format, r.data::text,
                   NULL::text, NULL::text, NULL::bigint, NULL::text, NULL::bigint, NULL::bigint, NULL::text
            FROM records r WHERE r.key = ANY (keys)
            UNION ALL
            SELECT NULL, NULL, d.format, NULL, d.task, d.lane, d.due_at, d.holder, d.ticket, d.nudge_at, d.note
            FROM due d WHERE d.task = ANY (tasks)
        ) x ON true;
    END IF;
END $$;

-- A part of a list behind or before a place, with the time. There is one row at least.
CREATE FUNCTION list_1(of_list text, behind text, backwards boolean, most bigint, given bigint)
RETURNS TABLE (at bigint, key text, version bigint, format integer, data text, sort text)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET plan_cache_mode = 'force_generic_plan'
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    -- A statement for each case: a bound that may be missing would be read over instead of sought.
    IF backwards AND behind IS NULL THEN
        RETURN QUERY SELECT t.at, l.key, r.version, r.format, r.data::text, l.sort
        FROM (SELECT now_1(given) AS at OFFSET 0) t
        LEFT JOIN (SELECT l.key, l.sort FROM lists l WHERE l.list = of_list ORDER BY l.sort DESC LIMIT most) l ON true
        LEFT JOIN records r ON r.key = l.key
        ORDER BY l.sort DESC;
    ELSIF backwards THEN
        RETURN QUERY SELECT t.at, l.key, r.version, r.format, r.data::text, l.sort
        FROM (SELECT now_1(given) AS at OFFSET 0) t
        LEFT JOIN (
            SELECT l.key, l.sort FROM lists l WHERE l.list = of_list AND l.sort < behind ORDER BY l.sort DESC LIMIT most
        ) l ON true
        LEFT JOIN records r ON r.key = l.key
        ORDER BY l.sort DESC;
    ELSIF behind IS NULL THEN
        RETURN QUERY SELECT t.at, l.key, r.version, r.format, r.data::text, l.sort
        FROM (SELECT now_1(given) AS at OFFSET 0) t
        LEFT JOIN (SELECT l.key, l.sort FROM lists l WHERE l.list = of_list ORDER BY l.sort LIMIT most) l ON true
        LEFT JOIN records r ON r.key = l.key
        ORDER BY l.sort;
    ELSE
        RETURN QUERY SELECT t.at, l.key, r.version, r.format, r.data::text, l.sort
        FROM (SELECT now_1(given) AS at OFFSET 0) t
        LEFT JOIN (
            SELECT l.key, l.sort FROM lists l WHERE l.list = of_list AND l.sort > behind ORDER BY l.sort LIMIT most
        ) l ON true
        LEFT JOIN records r ON r.key = l.key
        ORDER BY l.sort;
    END IF;
END $$;

-- The record with a unique name, if there is one, with the time.
CREATE FUNCTION by_name_1(of_name text, given bigint)
RETURNS TABLE (at bigint, key text, version bigint, format integer, data text)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET plan_cache_mode = 'force_generic_plan'
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT t.at, r.key, r.version, r.format, r.data::text
    FROM (SELECT now_1(given) AS at OFFSET 0) t LEFT JOIN records r ON r.name = of_name;
END $$;

-- Events up to the horizon, before which no transaction can bring one any more; the horizon; and the newest event, which
-- may be behind it. There is one row at least.
CREATE FUNCTION events_1(of_dependency text, of_project text, behind bigint, most bigint)
RETURNS TABLE (horizon bigint, newest bigint, seq bigint, at bigint, format integer, data text)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET plan_cache_mode = 'force_generic_plan'
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    -- One statement each, so that the horizon and the events are of one snapshot. The next events are found first, and then
    -- held against the horizon: a range with both ends looks small to the planner, and it would read all of it.
    IF of_dependency IS NOT NULL THEN
        RETURN QUERY SELECT h.horizon, h.newest, e.seq, e.at, e.format, e.data
        FROM (
            SELECT m.value::bigint + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 16) - 1 AS horizon,
                   (SELECT max(w.seq) FROM events w) AS newest
            FROM meta m WHERE m.name = 'event_base' OFFSET 0
        ) h
        LEFT JOIN (
            SELECT e.seq, e.at, e.format, e.data::text FROM events e
            WHERE e.seq > behind AND e.dependency = of_dependency ORDER BY e.seq LIMIT most
        ) e ON e.seq <= h.horizon ORDER BY e.seq;
    ELSIF of_project IS NOT NULL THEN
        RETURN QUERY SELECT h.horizon, h.newest, e.seq, e.at, e.format, e.data
        FROM (
            SELECT m.value::bigint + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 16) - 1 AS horizon,
                   (SELECT max(w.seq) FROM events w) AS newest
            FROM meta m WHERE m.name = 'event_base' OFFSET 0
        ) h
        LEFT JOIN (
            SELECT e.seq, e.at, e.format, e.data::text FROM events e
            WHERE e.seq > behind AND e.project = of_project ORDER BY e.seq LIMIT most
        ) e ON e.seq <= h.horizon ORDER BY e.seq;
    ELSE
        RETURN QUERY SELECT h.horizon, h.newest, e.seq, e.at, e.format, e.data
        FROM (
            SELECT m.value::bigint + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 16) - 1 AS horizon,
                   (SELECT max(w.seq) FROM events w) AS newest
            FROM meta m WHERE m.name = 'event_base' OFFSET 0
        ) h
        LEFT JOIN (
            SELECT e.seq, e.at, e.format, e.data::text FROM events e
            WHERE e.seq > behind ORDER BY e.seq LIMIT most
        ) e ON e.seq <= h.horizon ORDER BY e.seq;
    END IF;
END $$;
