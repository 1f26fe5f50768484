-- +goose Up
create table a (tenant_id uuid); rollback;
