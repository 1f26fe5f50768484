-- +goose Up
create table a (tenant_id uuid);
truncate a;
