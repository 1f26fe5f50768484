-- +goose NO TRANSACTION
-- +goose Up
drop index concurrently if exists orders_by_a;
create index concurrently orders_by_a on orders (tenant_id, total);
