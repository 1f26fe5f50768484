-- +goose Up
create table a (tenant_id uuid, b text references "App".currencies);
