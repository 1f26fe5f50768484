-- Moves of tenants from one home to another: how far each has come, who drives it, and what has to be taken away in the end.

-- +goose Up

-- One row per move, for ever. The phases are the state machine of package move, which says what follows what.
create table landlord.moves (
    id              uuid        primary key default gen_random_uuid(),
    tenant          text        collate "C" not null,
    slug            text        collate "C" not null,
    phase           text        not null default 'planned' check (phase in (
        'planned', 'preparing', 'copying', 'following', 'verified', 'fencing', 'committed', 'reversing', 'completing', 'done',
        'aborting', 'aborted', 'rolling-back', 'reverting', 'reverted')),
    source_model    text        not null check (source_model in ('shared', 'schema', 'database')),
    source_cluster  text        collate "C" not null,
    source_database text        collate "C" not null,
    source_schema   text        collate "C" not null,
    target_model    text        not null check (target_model in ('shared', 'schema', 'database')),
    target_cluster  text        collate "C" not null,
    target_database text        collate "C" not null,
    target_schema   text        collate "C" not null,
    epoch           bigint      not null check (epoch > 0), -- the source's; the target opens at the next one
    offline         boolean     not null,
    auto            boolean     not null,                   -- it cuts over by itself as soon as it can
    max_pause       interval    not null check (max_pause > '0'),
    max_wal         bigint      not null check (max_wal > 0), -- bytes that its slots may hold back
    actor           text        not null,
    asked           text        check (asked in ('cutover', 'rollback', 'complete', 'abort')), -- null: nothing
    -- Who drives it, for as long as that process renews its lease. It is a convenience: what the driver may write is decided by the
    -- owner of the fence rows, beside the data.
    owner           uuid,
    owned_since     timestamptz,
    owned_until     timestamptz,
    forward_slot    text        not null default '',        -- of the stream from the source
    reverse_slot    text        not null default '',        -- of the stream from the target
    start_lsn       pg_lsn,                                 -- where the source's slot begins
    start_xid       xid8,                                   -- no transaction below it wrote behind start_lsn
    reverse_lsn     pg_lsn,                                 -- what the tenant wrote at the target lies behind it
    no_rollback     text        not null default '',        -- why there is no way back; empty: there is, once it is cut over
    attempts        integer     not null default 0,         -- cutovers that were begun, undone ones included
    pause           interval,                               -- of the last cutover or rollback
    rows            bigint      not null default 0,         -- copied
    bytes           bigint      not null default 0,
    of_rows         bigint      not null default 0,         -- to be copied, as estimated when it began; 0: not known
    of_bytes        bigint      not null default 0,
    changes         bigint      not null default 0,         -- applied from the stream
    error           text        not null default '',        -- of the last attempt to go on
    started_at      timestamptz not null default now(),
    phase_at        timestamptz not null default now(),
    committed_at    timestamptz,
    ended_at        timestamptz,
    check ((phase in ('done', 'aborted', 'reverted')) = (ended_at is not null)),
    check ((source_cluster, source_database, source_schema) <> (target_cluster, target_database, target_schema))
);
create unique index moves_active on landlord.moves (tenant) where ended_at is null;
create index moves_started on landlord.moves (started_at);

-- What a move makes on the servers, written and committed before it is made, and deleted after it is gone.
create table landlord.move_cleanups (
    move     uuid        not null references landlord.moves,
    cluster  text        collate "C" not null,
    database text        collate "C" not null,
    kind     text        not null check (kind in ('publication', 'slot', 'hold', 'ledger', 'home')),
    name     text        collate "C" not null,
    at       timestamptz not null default now(),
    primary key (move, cluster, database, kind, name)
);
