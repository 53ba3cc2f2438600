CREATE TABLE capomastro_moves (
    way  TEXT    NOT NULL PRIMARY KEY CHECK (way IN ('self', 'from', 'to')),
    id   TEXT    NOT NULL,
    what TEXT    NOT NULL,
    done INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
