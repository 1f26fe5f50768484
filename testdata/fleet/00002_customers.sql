-- +goose Up
-- A table with a column tenant_id belongs to tenants. Row-level security, the column's default and the grants are added
-- in the transaction that creates the table. Keys start with the tenant, so that one tenant's rows lie together and no
-- key says anything about another tenant's.
create table customers (
    tenant_id  uuid,
    id         bigint generated always as identity,
    email      text not null,
    name       text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, email)
);

-- +goose Down
drop table customers;
