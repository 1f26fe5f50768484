-- +goose Up
create table a (tenant_id uuid, id bigint, primary key (tenant_id, id));
