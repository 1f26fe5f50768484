-- The catalog: where every tenant lives. Schema landlord of the control database, a database of its own (homes have a
-- schema of the same name for what lies beside the data).

-- +goose Up

-- The name of this installation and the type of its tenant ids: chosen once, for ever.
create table landlord.settings (
    one          boolean     primary key default true check (one),
    installation uuid        not null default gen_random_uuid(),
    id_type      text        not null check (id_type in ('uuid', 'bigint', 'text')),
    created_at   timestamptz not null default now()
);

-- Names are compared byte by byte (collate "C"), as Go does: ties are broken alike on both sides.
create table landlord.clusters (
    name            text        collate "C" primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    endpoint        text        not null,
    region          text        not null default '',
    tier            text        not null default '',
    state           text        not null default 'active' check (state in ('active', 'full', 'draining')),
    capacity        integer     not null default 0 check (capacity >= 0), -- tenants; 0: no limit
    shared_database text        not null,
    -- references to credentials, never credentials
    operator        text        not null check (operator ~ '^(env|file):'),
    app             text        not null check (app ~ '^(env|file):'),
    admin           text        not null check (admin ~ '^(env|file):'),
    created_at      timestamptz not null default now()
);

create table landlord.databases (
    cluster      text    collate "C" not null references landlord.clusters,
    name         text    collate "C" not null,
    model        text    not null check (model in ('shared', 'database')),
    stamp        uuid    not null, -- equals the identity stamp inside the database, or it is another one
    mode         text    not null check (mode in ('plain', 'locked', 'sealed', 'sealed-mac')),
    home_version integer not null check (home_version > 0),
    login        text    not null,
    primary key (cluster, name)
);

create table landlord.tenants (
    id           text        collate "C" primary key check (length(id) between 1 and 128),
    slug         text        collate "C" not null unique check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    state        text        not null check (state in ('provisioning', 'active', 'suspended', 'moving', 'removing')),
    tier         text        not null default '',
    region       text        not null default '',
    created_at   timestamptz not null default now(),
    remove_after timestamptz,
    check ((state = 'removing') = (remove_after is not null))
);

-- One row per tenant. A home may be recorded before its database exists, so there is no foreign key to databases.
create table landlord.placements (
    tenant   text   collate "C" primary key references landlord.tenants on delete cascade,
    model    text   not null check (model in ('shared', 'schema', 'database')),
    cluster  text   collate "C" not null references landlord.clusters,
    database text   collate "C" not null,
    schema   text   collate "C" not null,
    epoch    bigint not null check (epoch > 0)
);
-- Counts per cluster, and what stands in the way of removing a cluster or a database.
create index placements_home on landlord.placements (cluster, database);
-- Only a shared home has room for two.
create unique index placements_own_home on landlord.placements (cluster, database, schema) where model <> 'shared';

-- What happened to placements, for ever. before and after hold what kind says: homes with their epoch, or states.
create table landlord.placement_log (
    seq     bigint      primary key check (seq > 0),
    at      timestamptz not null,
    actor   text        not null,
    kind    text        not null check (kind in ('placed', 'state', 'moved', 'removed', 'rebuilt', 'cluster', 'endpoint', 'database')),
    tenant  text        collate "C", -- null: it concerns a cluster or a shared database
    slug    text        collate "C",
    cluster text        collate "C" not null,
    epoch   bigint,
    before  text,
    after   text,
    check (tenant is null or (slug is not null and epoch is not null))
);
create index placement_log_tenant on landlord.placement_log (tenant, seq) where tenant is not null;
create index placement_log_slug on landlord.placement_log (slug, seq) where slug is not null;

-- The one lock of the catalog, held to the end of the transaction. Whoever changes placements takes it before touching any
-- row (so nobody deadlocks), and decides by what he reads in a later statement.
-- +goose StatementBegin
create function landlord.lock_placement() returns void
language sql volatile as $$
    select pg_catalog.pg_advisory_xact_lock(7809644606432178788) -- the bytes of 'landlord'
$$;
-- +goose StatementEnd

-- Numbers the log under the lock and tells those who listen. A sequence would give a slow writer a lower number than a
-- quick one that commits before it, and a reader whose cursor has passed that number would never see it.
-- +goose StatementBegin
create function landlord.append_placement_log() returns trigger
language plpgsql volatile set search_path = '' as $$
begin
    perform landlord.lock_placement();
    -- A statement of its own: its snapshot is taken after the lock, so it sees what the last holder committed.
    select coalesce(max(seq), 0) + 1 into new.seq from landlord.placement_log;
    new.at := clock_timestamp();
    perform pg_notify('landlord_placement', new.seq::text);
    return new;
end
$$;
-- +goose StatementEnd

create trigger append before insert on landlord.placement_log
    for each row execute function landlord.append_placement_log();

-- +goose StatementBegin
create function landlord.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception 'table %.% is append-only', tg_table_schema, tg_table_name using errcode = 'insufficient_privilege';
end
$$;
-- +goose StatementEnd

create trigger append_only before update or delete or truncate on landlord.placement_log
    for each statement execute function landlord.refuse_change();
