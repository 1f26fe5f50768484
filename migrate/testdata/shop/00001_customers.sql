-- Comments before the annotation, empty lines

-- +goose Up
-- ignored by goose
create table customers (
    tenant_id uuid,
    id        bigint generated always as identity,
    name      text not null, -- a semicolon; within a comment
    note      text default 'it''s; quoted',
    primary key (tenant_id, id)
);
create type order_state as enum ('new', 'paid');   create index customers_by_name
    on customers (tenant_id, name);

-- +goose Down
drop table customers;
drop type order_state;
