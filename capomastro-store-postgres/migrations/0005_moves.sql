-- Begins to fill the store: 'empty', or 'finished' if that was done before, or 'in_use'.
CREATE FUNCTION begin_move_1(from_id text, from_what text, mover text, last_number bigint, last_event bigint)
RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET lock_timeout = '5s'
AS $$
DECLARE
    before moves;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    -- Whoever changes anything locks this table first, so nothing is under way when this lock is had.
    LOCK TABLE moves IN ACCESS EXCLUSIVE MODE;
    SELECT * INTO before FROM moves m WHERE m.way = 'from';
    IF before.id = from_id AND before.done THEN
        RETURN 'finished';
    ELSIF before.id = from_id THEN
        -- Half of it is worth nothing.
        DELETE FROM records;
        DELETE FROM lists;
        DELETE FROM due;
        DELETE FROM events;
        DELETE FROM commits;
        UPDATE moves SET what = from_what, token = mover WHERE way = 'from';
    ELSIF before.id IS NOT NULL
        OR EXISTS (SELECT 1 FROM moves) OR EXISTS (SELECT 1 FROM records) OR EXISTS (SELECT 1 FROM lists)
        OR EXISTS (SELECT 1 FROM due) OR EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM commits)
    THEN
        RETURN 'in_use';
    ELSE
        INSERT INTO moves (way, id, what, done, token) VALUES ('from', from_id, from_what, false, mover);
    END IF;
    -- Nothing at or below these numbers is given any more.
    IF last_number > 0 THEN
        PERFORM setval('counter', greatest(last_number, (SELECT c.last_value FROM counter c)));
    END IF;
    UPDATE meta SET value = greatest(value::bigint, last_event + 1)::text WHERE name = 'event_base';
    RETURN 'empty';
END $$;

-- Ends the filling. Whether this mover was or had been the one.
CREATE FUNCTION finish_move_1(mover text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE moves SET done = true WHERE way = 'from' AND token = mover;
    RETURN FOUND;
END $$;

-- Closes the store for good: the other place, if everything went there before.
CREATE FUNCTION retire_1(to_id text, to_what text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET lock_timeout = '5s'
AS $$
DECLARE
    before moves;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    -- Whoever changes anything locks this table first, so nothing is under way when this lock is had.
    LOCK TABLE moves IN ACCESS EXCLUSIVE MODE;
    SELECT * INTO before FROM moves m WHERE m.way = 'to';
    IF before.id <> to_id THEN
        RETURN before.what;
    END IF;
    INSERT INTO moves (way, id, what, done) VALUES ('to', to_id, to_what, true) ON CONFLICT (way) DO NOTHING;
    RETURN NULL;
END $$;

-- Takes that back.
CREATE FUNCTION reinstate_1() RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    DELETE FROM moves WHERE way = 'to';
    RETURN NULL;
END $$;
