-- +goose Up
create table a (tenant_id uuid, id int generated always as identity, primary key (tenant_id, id));
