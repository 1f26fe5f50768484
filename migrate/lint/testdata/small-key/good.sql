-- +goose Up
create table a (tenant_id uuid, id bigint, position int, primary key (tenant_id, id, position));
