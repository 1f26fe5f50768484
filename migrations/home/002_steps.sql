-- Migrating many homes at once: each version row says in which phase of a change and in which run it was made, and each
-- schema says who is at work on it.

alter table landlord.schema_version
    add column phase text not null default 'expand' check (phase in ('expand', 'backfill', 'validate', 'contract')),
    add column run   uuid;  -- of the catalog's ledger; null: made with the home

-- The last attempt at a step of each schema. One that was overtaken is refused, however late it comes back.
create table landlord.schema_step (
    schema     name   primary key,
    run        uuid   not null,
    lease      bigint not null,
    unfinished bigint  -- a version that runs outside a transaction and has begun
);
