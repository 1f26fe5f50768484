-- +goose NO TRANSACTION
-- +goose Up
vacuum full orders;
