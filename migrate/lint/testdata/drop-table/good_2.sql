-- +goose Up
create table a (tenant_id uuid);
drop table a;
