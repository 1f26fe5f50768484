-- +goose Up
create table a (tenant_id uuid, id integer, primary key (tenant_id, id));
