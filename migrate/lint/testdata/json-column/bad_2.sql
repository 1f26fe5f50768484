-- +goose Up
create table a (tenant_id uuid, b json);
