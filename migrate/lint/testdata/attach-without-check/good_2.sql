-- +goose Up
create table events_2040 (tenant_id uuid not null, id bigint not null, at timestamptz not null);
alter table events attach partition events_2040 for values from ('2040-01-01') to ('2041-01-01');
