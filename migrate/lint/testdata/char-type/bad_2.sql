-- +goose Up
create table a (tenant_id uuid, b character(2));
