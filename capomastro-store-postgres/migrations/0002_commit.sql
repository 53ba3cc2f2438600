-- One batch: everything is locked in one order, then checked, then written.
--
-- A refusal is an answer, not an exception, so that the server's log is not filled with what is no fault.
CREATE FUNCTION commit_1(
    given bigint, form integer, batch_id text, batch_holder text,
    put_keys text[], put_kinds text[], put_expects bigint[], put_names text[], put_places text[], put_data text[],
    delete_keys text[], delete_versions bigint[],
    guard_keys text[], guard_versions bigint[],
    claim_tasks text[], claim_tickets bigint[],
    due_ops text[], due_tasks text[], due_ranks bigint[], due_lanes text[], due_afters bigint[], due_notes text[],
    event_dependencies text[], event_projects text[], event_data text[],
    forget_events_before bigint, forget_keep bigint, forget_commits_before bigint, forget_most bigint,
    -- 'done', 'repeated', or why not: 'claim_lost', 'conflict', 'newer', 'name_taken', 'too_many_events'
    OUT outcome text, OUT at bigint,
    OUT about text, OUT wanted text, OUT stored text,
    -- the claims that were born or made longer, in the order of the batch; no time for those that became longer
    OUT claimed_tasks text[], OUT claimed_tickets bigint[], OUT claimed_due bigint[], OUT claimed_notes text[],
    -- how many events, or ids, went: the greater number
    OUT forgotten bigint
)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET lock_timeout = '2s'
-- Each statement touches few rows of tables that may be huge. The plans are for that, whatever statistics say today.
SET plan_cache_mode = 'force_generic_plan'
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    change record;
    held boolean;
    until_at bigint;
    was_at bigint;
    row_ticket bigint;
    row_note text;
    first_seq bigint;
    next_seq bigint;
    newest_to_go bigint;
    gone bigint;
BEGIN
    LOCK TABLE moves IN ACCESS SHARE MODE;
    PERFORM usable_1();
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    -- Locks: due rows, what is not there yet, records; each in the order of their keys, so that no two batches wait for
    -- each other.
    IF cardinality(claim_tasks) + cardinality(due_tasks) > 0 THEN
        PERFORM 1 FROM due d WHERE d.task = ANY (claim_tasks || due_tasks) ORDER BY d.task FOR UPDATE;
    END IF;
    -- A record that is to be absent has no row to lock. Who creates one and who relied on its absence meet at a lock of
    -- its key; there are 4,096 of them, since the server's table of locks is small.
    IF array_position(put_expects, NULL) IS NOT NULL OR array_position(guard_versions, NULL) IS NOT NULL THEN
        PERFORM CASE WHEN l.shared THEN pg_advisory_xact_lock_shared(l.place) ELSE pg_advisory_xact_lock(l.place) END
        FROM (
            SELECT hashtextextended(current_schema(), 4341504) + (hashtextextended(k.key, 0) & 4095) AS place,
                   bool_and(k.shared) AS shared
            FROM (
                SELECT p.key, false AS shared FROM unnest(put_keys, put_expects) p(key, expect) WHERE p.expect IS NULL
                UNION ALL
                SELECT g.key, true FROM unnest(guard_keys, guard_versions) g(key, expect) WHERE g.expect IS NULL
            ) k
            GROUP BY 1 ORDER BY 1 OFFSET 0
        ) l;
    END IF;
    PERFORM 1 FROM records r WHERE r.key = ANY (put_keys || delete_keys || guard_keys) ORDER BY r.key FOR UPDATE;

    -- Only now: the same batch may have been on its way, and held these locks.
    SELECT c.at INTO commit_1.at FROM commits c WHERE c.id = batch_id;
    IF FOUND THEN
        outcome := 'repeated';
        RETURN;
    END IF;

    commit_1.at := now_1(given);

    -- Claims.
    SELECT c.task INTO about
    FROM unnest(claim_tasks, claim_tickets) WITH ORDINALITY c(task, ticket, n)
    LEFT JOIN due d ON d.task = c.task AND d.ticket = c.ticket AND d.holder = batch_holder
    WHERE d.task IS NULL ORDER BY c.n LIMIT 1;
    IF FOUND THEN
        outcome := 'claim_lost';
        RETURN;
    END IF;
    SELECT d.task, d.format, d.format > form INTO change
    FROM unnest(due_ops, due_tasks) WITH ORDINALITY c(op, task, n)
    JOIN due d ON d.task = c.task
    WHERE d.format > form
       OR (c.op = 'hold' AND d.holder IS NOT NULL AND d.due_at > commit_1.at AND d.task <> ALL (claim_tasks))
    ORDER BY c.n LIMIT 1;
    IF FOUND THEN
        outcome := CASE WHEN change.format > form THEN 'newer' ELSE 'claim_lost' END;
        about := CASE WHEN change.format > form THEN 'due/' ELSE '' END || change.task;
        stored := change.format;
        RETURN;
    END IF;

    -- Versions. A transaction of a stricter isolation looks at what was there when it began; an insert meets what was made
    -- since, and fails, as a lock on a row that was changed since does.
    IF array_position(guard_versions, NULL) IS NOT NULL
        AND current_setting('transaction_isolation') <> 'read committed'
    THEN
        INSERT INTO records (key, version, format, kind, places, data)
        SELECT g.key, 0, form, '', '[]', 'null'
        FROM unnest(guard_keys, guard_versions) g(key, expect)
        WHERE g.expect IS NULL AND NOT EXISTS (SELECT 1 FROM records r WHERE r.key = g.key)
        ORDER BY g.key;
        DELETE FROM records r WHERE r.key = ANY (guard_keys) AND r.version = 0;
    END IF;
    SELECT e.key, e.expect, r.version, r.format, e.part INTO change
    FROM (
        SELECT 1 AS part, p.key, p.expect, p.n FROM unnest(put_keys, put_expects) WITH ORDINALITY p(key, expect, n)
        UNION ALL
        SELECT 2, d.key, d.version, d.n FROM unnest(delete_keys, delete_versions) WITH ORDINALITY d(key, version, n)
        UNION ALL
        SELECT 3, g.key, g.version, g.n FROM unnest(guard_keys, guard_versions) WITH ORDINALITY g(key, version, n)
    ) e
    LEFT JOIN records r ON r.key = e.key
    WHERE r.version IS DISTINCT FROM e.expect OR (r.format > form AND e.part < 3)
    ORDER BY e.part, e.n LIMIT 1;
    IF FOUND THEN
        outcome := CASE WHEN change.format > form AND change.part < 3 THEN 'newer' ELSE 'conflict' END;
        about := change.key;
        wanted := change.expect;
        stored := CASE outcome WHEN 'newer' THEN change.format ELSE change.version END;
        RETURN;
    END IF;

    -- Names.
    IF EXISTS (SELECT 1 FROM unnest(put_names) n WHERE n IS NOT NULL) THEN
        SELECT p.name, r.key INTO about, stored
        FROM unnest(put_names, put_keys) WITH ORDINALITY p(name, key, n)
        JOIN records r ON r.name = p.name AND r.key <> ALL (put_keys || delete_keys)
        ORDER BY p.n LIMIT 1;
        IF NOT FOUND THEN
            SELECT n INTO about FROM unnest(put_names) n WHERE n IS NOT NULL GROUP BY n HAVING count(*) > 1 LIMIT 1;
        END IF;
        IF FOUND THEN
            outcome := 'name_taken';
            RETURN;
        END IF;
        -- Names are freed before they are taken again, so that two records can swap them.
        UPDATE records r SET name = NULL
        FROM unnest(put_keys, put_names) p(key, name)
        WHERE r.key = p.key AND r.name IS NOT NULL AND r.name IS DISTINCT FROM p.name;
    END IF;

    -- Places are freed before they are taken again.
    IF cardinality(put_keys) + cardinality(delete_keys) > 0 THEN
        -- One by one: in a join, old statistics could make the lists be read from end to end.
        FOR change IN
            SELECT o.place ->> 0 AS list, o.place ->> 1 AS sort, r.key
            FROM (
                SELECT p.key, p.places FROM unnest(put_keys, put_places) p(key, places)
                UNION ALL
                SELECT k.key, '[]' FROM unnest(delete_keys) k(key)
            ) p
            JOIN records r ON r.key = p.key AND r.places <> p.places
            CROSS JOIN LATERAL json_array_elements(r.places::json) o(place)
            WHERE NOT EXISTS (
                SELECT 1 FROM json_array_elements(p.places::json) n(place)
                WHERE n.place ->> 0 = o.place ->> 0 AND n.place ->> 1 = o.place ->> 1
            )
        LOOP
            DELETE FROM lists l WHERE l.list = change.list AND l.sort = change.sort AND l.key = change.key;
        END LOOP;
        INSERT INTO lists (list, sort, key)
        SELECT n.place ->> 0, n.place ->> 1, p.key
        FROM unnest(put_keys, put_places) p(key, places)
        LEFT JOIN records r ON r.key = p.key
        CROSS JOIN LATERAL json_array_elements(p.places::json) n(place)
        WHERE r.key IS NULL OR (r.places <> p.places AND NOT EXISTS (
            SELECT 1 FROM json_array_elements(r.places::json) o(place)
            WHERE o.place ->> 0 = n.place ->> 0 AND o.place ->> 1 = n.place ->> 1
        ));
    END IF;

    -- Records.
    IF cardinality(delete_keys) > 0 THEN
        DELETE FROM records r WHERE r.key = ANY (delete_keys);
    END IF;
    IF cardinality(put_keys) > 0 THEN
        UPDATE records r
        SET version = nextval('counter'), format = form, name = p.name, places = p.places, data = p.data::json
        FROM unnest(put_keys, put_expects, put_names, put_places, put_data) p(key, expect, name, places, data)
        WHERE p.expect IS NOT NULL AND r.key = p.key;
        INSERT INTO records (key, version, format, kind, name, places, data)
        SELECT p.key, nextval('counter'), form, p.kind, p.name, p.places, p.data::json
        FROM unnest(put_keys, put_kinds, put_expects, put_names, put_places, put_data)
            p(key, kind, expect, name, places, data)
        WHERE p.expect IS NULL;
    END IF;

    -- Due rows. The rule is that of `capomastro_core::store::due`.
    FOR change IN
        SELECT * FROM unnest(due_ops, due_tasks, due_ranks, due_lanes, due_afters, due_notes)
            c(op, task, rank, lane, after, note)
    LOOP
        held := change.task = ANY (claim_tasks);
        until_at := later_1(commit_1.at, change.after);
        CASE change.op
        WHEN 'set' THEN
            INSERT INTO due AS d (task, rank, lane, due_at, ticket, note, format)
            VALUES (change.task, change.rank, change.lane, until_at, 0, coalesce(change.note, '{}'), form)
            ON CONFLICT (task) DO UPDATE SET
                lane = change.lane,
                due_at = CASE WHEN held THEN released_1(commit_1.at, until_at, d.nudge_at)
                              WHEN d.holder IS NULL THEN until_at ELSE d.due_at END,
                nudge_at = CASE WHEN held OR d.holder IS NULL THEN NULL ELSE least(until_at, d.nudge_at) END,
                holder = CASE WHEN held THEN NULL ELSE d.holder END,
                note = coalesce(change.note, d.note),
                format = form;
        WHEN 'hold' THEN
            SELECT d.due_at INTO was_at FROM due d WHERE d.task = change.task;
            INSERT INTO due AS d (task, rank, lane, due_at, holder, ticket, note, format)
            VALUES (change.task, change.rank, change.lane, until_at, batch_holder, nextval('counter'), '{}', form)
            ON CONFLICT (task) DO UPDATE SET
                lane = change.lane,
                due_at = until_at,
                nudge_at = CASE WHEN held THEN d.nudge_at END,
                ticket = CASE WHEN held THEN d.ticket ELSE nextval('counter') END,
                holder = batch_holder,
                format = form
            WHERE held OR d.holder IS NULL OR d.due_at <= commit_1.at
            RETURNING d.ticket, d.note INTO row_ticket, row_note;
            IF NOT FOUND THEN
                -- The row was made after the locks were taken: the whole batch is tried again.
                RAISE EXCEPTION 'a due row came in between' USING ERRCODE = 'serialization_failure';
            END IF;
            claimed_tasks := claimed_tasks || change.task;
            claimed_tickets := claimed_tickets || row_ticket;
            claimed_due := claimed_due || CASE WHEN held THEN NULL ELSE coalesce(was_at, commit_1.at) END;
            claimed_notes := claimed_notes || row_note;
        WHEN 'nudge' THEN
            UPDATE due d SET
                due_at = CASE WHEN d.holder IS NULL THEN until_at ELSE d.due_at END,
                nudge_at = CASE WHEN d.holder IS NULL THEN d.nudge_at ELSE until_at END
            WHERE d.task = change.task
              AND CASE WHEN d.holder IS NULL THEN d.due_at > until_at
                       ELSE d.nudge_at IS NULL OR d.nudge_at > until_at END;
        WHEN 'done' THEN
            UPDATE due d SET holder = NULL, due_at = greatest(d.nudge_at, commit_1.at), nudge_at = NULL
            WHERE d.task = change.task AND held AND d.nudge_at IS NOT NULL;
            IF NOT FOUND THEN
                DELETE FROM due d WHERE d.task = change.task;
            END IF;
        WHEN 'drop' THEN
            DELETE FROM due d WHERE d.task = change.task;
        END CASE;
    END LOOP;

    -- What need not be kept. The oldest go first.
    IF forget_most IS NOT NULL THEN
        SELECT e.seq INTO newest_to_go FROM events e ORDER BY e.seq DESC LIMIT 1 OFFSET forget_keep;
        IF FOUND THEN
            DELETE FROM events e WHERE e.seq IN (
                SELECT o.seq FROM events o
                WHERE o.at < forget_events_before AND o.seq <= newest_to_go ORDER BY o.at, o.seq LIMIT forget_most
            );
            GET DIAGNOSTICS forgotten = ROW_COUNT;
        END IF;
        DELETE FROM commits c WHERE c.id IN (
            SELECT o.id FROM commits o WHERE o.at < forget_commits_before ORDER BY o.at, o.id LIMIT forget_most
        );
        GET DIAGNOSTICS gone = ROW_COUNT;
        forgotten := greatest(forgotten, gone);
    END IF;

    -- Events are numbered by their transaction, so that the order of numbers is known before the order of commits is:
    -- `events_1` shows none while an older transaction may still bring one before it.
    IF cardinality(event_data) > 0 THEN
        SELECT m.value::bigint + (pg_current_xact_id()::text::bigint << 16) INTO first_seq
        FROM meta m WHERE m.name = 'event_base';
        -- More than one batch may be in one transaction.
        SELECT coalesce(max(e.seq) + 1, first_seq) INTO next_seq
        FROM events e WHERE e.seq >= first_seq AND e.seq < first_seq + 65536;
        IF next_seq - first_seq + cardinality(event_data) > 65536 THEN
            RAISE EXCEPTION 'a transaction has more than 65,536 events' USING ERRCODE = 'CM002';
        END IF;
        INSERT INTO events (seq, at, dependency, project, format, data)
        SELECT next_seq + e.n - 1, commit_1.at, e.dependency, e.project, form, e.data::json
        FROM unnest(event_dependencies, event_projects, event_data) WITH ORDINALITY e(dependency, project, data, n);
    END IF;

    INSERT INTO commits (id, at) VALUES (batch_id, commit_1.at);
    outcome := 'done';
END $$;
