-- +goose Up
create table a (tenant_id uuid, b timestamp(3) without time zone not null);
