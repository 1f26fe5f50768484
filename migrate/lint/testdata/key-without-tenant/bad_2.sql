-- +goose Up
create table a (tenant_id uuid, id bigint, name text, primary key (tenant_id, id), unique (name));
