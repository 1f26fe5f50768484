-- +goose Up
create table items (
    tenant_id uuid,
    id        bigint,
    name      text,
    primary key (tenant_id, id)
);
