-- +goose NO TRANSACTION
-- +goose Up
create index concurrently if not exists i on orders (tenant_id, total);
