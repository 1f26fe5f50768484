-- +goose Up
create table a (tenant_id uuid, id serial, primary key (tenant_id, id));
