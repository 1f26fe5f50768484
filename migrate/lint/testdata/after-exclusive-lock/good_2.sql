-- +goose Up
alter table orders add column a text;
comment on column orders.a is 'x';
create table fine (tenant_id uuid, id bigint, primary key (tenant_id, id));
