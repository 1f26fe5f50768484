-- +goose NO TRANSACTION
-- +goose Up
create index concurrently i on orders (total);
