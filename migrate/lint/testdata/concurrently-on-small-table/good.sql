-- +goose NO TRANSACTION
-- +goose Up
create index concurrently i on orders (tenant_id, total);
