-- What landlord keeps beside the data, in every database that holds tenants. Run once, by a role that may create
-- schemas; the functions of functions.sql and of modes/ are replaced at every upgrade instead.

create schema landlord;
create schema if not exists extensions;

-- Which database this is. A connection to a database with another stamp (swapped DSN, re-created database) is refused.
create table landlord.identity (
    one          boolean primary key default true check (one),
    installation uuid    not null,
    cluster      text    not null,
    stamp        uuid    not null,
    app_login    name    not null,  -- the login that the application uses here
    mode         text    not null check (mode in ('plain', 'locked', 'sealed', 'sealed-mac')),
    version      int     not null,  -- of the home objects
    checksum     text    not null   -- of the SQL that made them, so that an upgrade knows what to do
);

-- Seal keys, as the two padded blocks of HMAC (RFC 2104), so that a check costs two hashes and no xor.
create table landlord.seal_key (
    kid       int         primary key,
    ipad      bytea       not null check (length(ipad) = 64),
    opad      bytea       not null check (length(opad) = 64),
    not_after timestamptz not null default 'infinity'
);

-- One row per tenant and home: which epoch is open here. The data's own word; the catalog follows it.
create table landlord.fence (
    tenant       text        not null,
    home         text        not null,
    slug         text        not null,
    model        text        not null check (model in ('shared', 'schema', 'database')),
    epoch        bigint      not null check (epoch > 0),
    state        text        not null check (state in ('importing', 'open', 'fenced', 'moved', 'suspended')),
    fenced_until timestamptz,
    owner        uuid,        -- the attempt that fenced or imports
    moved_to     jsonb,       -- state moved: {"home", "model", "epoch"}, told to whoever still comes here
    primary key (tenant, home)
);

-- Which migrations each schema has; written in the transaction of their DDL.
create table landlord.schema_version (
    schema     name        not null,
    version    bigint      not null,
    checksum   text        not null,
    applied_at timestamptz not null default now(),
    primary key (schema, version)
);

-- Who worked across tenants here, and why.
create table landlord.admin_log (
    id     bigint      generated always as identity primary key,
    at     timestamptz not null default now(),
    login  name        not null default session_user,
    reason text        not null check (btrim(reason) <> '')
);
