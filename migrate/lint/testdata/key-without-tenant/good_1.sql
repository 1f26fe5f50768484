-- +goose Up
create table a (tenant_id uuid, id bigint, doc jsonb, primary key (tenant_id, id));
create index a_doc on a using gin (doc);
