-- What outlives a step of a migration: how far a backfill has come, and that a home must stay as it is.

-- A backfill goes over a table in batches, in the order of its key. Each batch moves the cursor in its own transaction, so
-- that it goes on where it stopped, whoever stopped it.
create table landlord.backfill (
    schema     name        not null,
    version    bigint      not null,
    checksum   text        not null, -- of the file: another text begins anew
    upper      text[],               -- the last key when it began: rows that come later need none; null: there was none
    cursor     text[],               -- the last key that is done; null: none yet
    batch      integer     not null check (batch > 0), -- keys of the next batch
    done       bigint      not null default 0,         -- rows that it has changed
    started_at timestamptz not null default now(),
    primary key (schema, version)
);

-- A home that is being moved. No step begins there until the row is gone.
create table landlord.move_hold (
    schema name        primary key,
    move   uuid        not null,
    since  timestamptz not null default now()
);
