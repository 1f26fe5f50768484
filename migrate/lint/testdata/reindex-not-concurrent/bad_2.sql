-- +goose NO TRANSACTION
-- +goose Up
reindex (verbose) index orders_by_customer;
