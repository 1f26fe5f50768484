-- +goose NO TRANSACTION
-- +goose Up
create unique index concurrently i on orders (tenant_id, total);
