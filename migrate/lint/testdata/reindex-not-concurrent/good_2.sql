-- +goose NO TRANSACTION
-- +goose Up
reindex (concurrently) table orders;
