-- +goose NO TRANSACTION
-- +goose Up
vacuum (analyze) orders;
