-- +goose Up
create table public.a (tenant_id uuid);
