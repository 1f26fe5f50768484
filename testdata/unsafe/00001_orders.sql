-- +goose Up
create table orders (
    tenant_id uuid,
    id        bigint generated always as identity,
    note      text,
    total     numeric(12, 2),
    primary key (tenant_id, id)
);

-- +goose Down
drop table orders;
