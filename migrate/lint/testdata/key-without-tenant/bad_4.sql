-- +goose Up
create table a (tenant_id uuid, id bigint, order_id bigint, primary key (tenant_id, id));
create index a_by_name on a (lower(id));
