-- +goose NO TRANSACTION
-- +goose Up
reindex index concurrently orders_by_customer;
