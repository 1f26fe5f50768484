-- What a move leaves beside the data, so that it goes on where it stopped, whoever stopped it. Rows of a move that is over are
-- gone.

-- Which ranges of keys are copied, kept at the target and written in the transaction that brought their rows. What a chunk's
-- snapshot shows is in it; the change stream brings the rest.
create table landlord.move_chunk (
    move         uuid        not null,
    source_table text        not null,
    n            int         not null,  -- in the order of the keys
    lo           text[],                -- lo < key <= hi; null: from the first, to the last
    hi           text[],
    snapshot     pg_snapshot not null,
    rows         bigint      not null,
    bytes        bigint      not null,
    primary key (move, source_table, n)
);

-- How far a change stream is applied, kept where it is written and moved in the transaction of its changes: each is applied
-- exactly once.
create table landlord.move_progress (
    move      uuid   not null,
    direction text   not null check (direction in ('forward', 'reverse')),
    lsn       pg_lsn not null,
    primary key (move, direction)
);

-- Several tenants of a shared home may be on the move.
alter table landlord.move_hold drop constraint move_hold_pkey, add primary key (schema, move);
