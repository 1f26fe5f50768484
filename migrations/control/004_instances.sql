-- Which versions of the application are alive, and how far the fleet has left the old shape of its tables behind.

-- +goose Up

-- A process that routes to homes writes itself down before it uses the first one, and again every few seconds; when it ends it
-- takes its row away. One that has fallen silent may be alive all the same, cut off from here: its row stays until somebody who
-- knows says otherwise.
create table landlord.instances (
    id             uuid        primary key,
    name           text        not null check (length(name) between 1 and 200), -- what people call it
    schema_version bigint      not null check (schema_version >= 0), -- the newest that it was written for; 0: it does not say
    started_at     timestamptz not null default now(),
    seen_at        timestamptz not null default now()
);

-- Migrations of the phase contract run up to the version contracted, and no further. What was written for an older version
-- than needs would meet tables that it does not know: it may not begin any more.
create table landlord.gate (
    one        boolean primary key default true check (one),
    contracted bigint  not null default 0,
    needs      bigint  not null default 0
);
insert into landlord.gate default values;

-- +goose StatementBegin
create function landlord.leave(p_id uuid) returns void
language sql volatile security definer set search_path = '' as $$
    delete from landlord.instances i where i.id = p_id
$$;
-- +goose StatementEnd
