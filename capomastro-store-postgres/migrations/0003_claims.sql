-- Takes due work: lane after lane, in due order, skipping what others hold or are just taking.
-- Each lane is looked at from its floor on, which was found at the time floors_of, and of which the caller says that nothing
-- is due before it.
CREATE FUNCTION claim_1(
    lanes text[], limits bigint[], leases bigint[], floors bigint[], floors_of bigint,
    claim_holder text, given bigint, form integer
)
RETURNS TABLE (at bigint, next_due bigint, task text, ticket bigint, due_at bigint, note text, lane integer)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET lock_timeout = '2s'
SET plan_cache_mode = 'force_generic_plan'
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    started bigint := now_1(given);
    soonest bigint;
    floor_of_lane bigint;
    taken record;
BEGIN
    LOCK TABLE moves IN ACCESS SHARE MODE;
    PERFORM usable_1();
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    FOR i IN 1 .. cardinality(lanes) LOOP
        -- Of a time that has not come yet nothing is known: the clock was set back.
        floor_of_lane := CASE WHEN floors_of > started THEN -9223372036854775808 ELSE floors[i] END;
        FOR taken IN
            WITH pick AS MATERIALIZED (
                -- One more than asked for: when it is due is what the caller waits for.
                SELECT d.task, d.due_at, d.rank FROM due d
                WHERE d.lane = lanes[i] AND d.due_at >= floor_of_lane AND d.due_at <= started AND d.format <= form
                ORDER BY d.due_at, d.rank, d.task LIMIT limits[i] + 1 FOR UPDATE SKIP LOCKED
            ), placed AS (
                SELECT p.task, p.due_at, row_number() OVER (ORDER BY p.due_at, p.rank, p.task) AS n FROM pick p
            ), took AS (
                UPDATE due d
                SET holder = claim_holder, ticket = nextval('counter'), due_at = later_1(started, leases[i]),
                    nudge_at = NULL
                FROM placed p WHERE d.task = p.task AND p.n <= limits[i]
                RETURNING p.n, d.task, d.ticket, p.due_at, d.note
            ), ready AS (
                SELECT count(*) AS n FROM (
                    SELECT 1 FROM due d
                    WHERE d.lane = lanes[i] AND d.due_at >= floor_of_lane AND d.due_at <= started AND d.format <= form
                    LIMIT limits[i] + 1
                ) r
            ), later AS (
                -- Where more is due now, nobody waits for what is due later.
                SELECT d.due_at FROM due d
                WHERE d.lane = lanes[i] AND d.due_at > started AND d.format <= form
                    AND (SELECT count(*) FROM pick) <= limits[i]
                ORDER BY d.due_at LIMIT 1
            )
            SELECT t.n, t.task, t.ticket, t.due_at, t.note FROM took t
            UNION ALL
            SELECT NULL, NULL, NULL, least(
                (SELECT p.due_at FROM placed p WHERE p.n > limits[i]),
                -- What was skipped is in the hands of a transaction that ends soon, this way or that.
                (SELECT started + 100000 FROM ready r WHERE r.n > (SELECT count(*) FROM pick)),
                (SELECT l.due_at FROM later l)
            ), NULL
            ORDER BY 1 NULLS LAST
        LOOP
            IF taken.task IS NULL THEN
                soonest := least(soonest, taken.due_at);
            ELSE
                claim_1.at := started;
                claim_1.task := taken.task;
                claim_1.ticket := taken.ticket;
                claim_1.due_at := taken.due_at;
                claim_1.note := taken.note;
                claim_1.lane := i;
                RETURN NEXT;
            END IF;
        END LOOP;
    END LOOP;
    -- The last row says when to ask again.
    claim_1.at := started;
    claim_1.next_due := soonest;
    claim_1.task := NULL;
    claim_1.ticket := NULL;
    claim_1.due_at := NULL;
    claim_1.note := NULL;
    claim_1.lane := NULL;
    RETURN NEXT;
END $$;

-- Gives claims back. It need not wait for the disk: what a crash takes of it ends with the leases.
CREATE FUNCTION put_back_1(
    back_holder text, tasks text[], tickets bigint[], afters bigint[], notes text[], given bigint, form integer
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET lock_timeout = '2s'
SET plan_cache_mode = 'force_generic_plan'
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    now_at bigint;
BEGIN
    LOCK TABLE moves IN ACCESS SHARE MODE;
    PERFORM usable_1();
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM 1 FROM due d WHERE d.task = ANY (tasks) ORDER BY d.task FOR UPDATE;
    now_at := now_1(given);
    UPDATE due d
    SET holder = NULL, due_at = released_1(now_at, later_1(now_at, b.after), d.nudge_at), nudge_at = NULL, note = b.note
    FROM unnest(tasks, tickets, afters, notes) b(task, ticket, after, note)
    WHERE d.task = b.task AND d.holder = back_holder AND d.ticket = b.ticket AND d.format <= form;
END $$;
