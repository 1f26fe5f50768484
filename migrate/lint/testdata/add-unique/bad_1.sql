-- +goose Up
alter table orders add unique (tenant_id, total);
