-- The ledger of migration runs: who works on which home, and what has become of it. What a home has is told by the home
-- itself (landlord.schema_version beside the data); the ledger can be rebuilt from there.

-- +goose Up

create table landlord.runs (
    id         uuid        primary key default gen_random_uuid(), -- stands in the version rows of homes
    number     bigint      generated always as identity unique,   -- what people call it
    files      text        not null,                              -- digest of the migrations' versions and checksums
    folder     text        not null default '',                   -- where whoever began it has them; a hint, files decides
    newest     bigint      not null,                              -- version of the last of them
    state      text        not null default 'running' check (state in ('running', 'paused', 'halted', 'failed', 'done', 'abandoned')),
    wave       integer     not null default 1 check (wave > 0),   -- targets of later waves are not claimed yet
    waves      integer     not null check (waves > 0),
    stop_after integer     not null default 0,                    -- the wave after which it pauses; 0: none
    canary     boolean     not null,                              -- one failure in the first wave halts it
    why        text        not null default '',                   -- it is paused or halted
    actor      text        not null,
    started_at timestamptz not null default now(),
    ended_at   timestamptz
);
-- One run at a time.
create unique index runs_unfinished on landlord.runs ((true)) where state in ('running', 'paused', 'halted');

create table landlord.run_targets (
    run          uuid        not null references landlord.runs on delete cascade,
    cluster      text        collate "C" not null,
    database     text        collate "C" not null,
    place        text        collate "C" not null, -- a home's schema, or what stands for the whole database or server
    scope        text        not null check (scope in ('server', 'database', 'tenant')),
    tenant       text        collate "C",          -- whose home it is; null: it is shared
    wave         integer     not null,
    state        text        not null default 'pending' check (state in ('pending', 'leased', 'verified', 'failed', 'skipped')),
    lease        bigint      not null default 0,   -- counts the claims: a worker that was overtaken is refused by it
    worker       text,
    leased_until timestamptz,
    tries        integer     not null default 0,   -- since the trouble began
    trouble_at   timestamptz,                      -- when it was put off for the first time
    not_before   timestamptz not null default '-infinity',
    blameless    boolean     not null default false, -- it failed for something that says nothing of the files
    sqlstate     text        not null default '',
    error        text        not null default '',
    reason       text        not null default '',  -- it was skipped
    primary key (run, cluster, database, place)
);
-- What there is to claim: a small part of a run towards its end.
create index run_targets_open on landlord.run_targets (run, cluster, wave, database, place) where state in ('pending', 'leased');
-- What homes wait for.
create index run_targets_first on landlord.run_targets (run, cluster, database) where scope <> 'tenant';
