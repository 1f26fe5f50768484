-- +goose NO TRANSACTION
-- +goose Up
alter table orders add column if not exists a text;
alter table customers add column if not exists a text;
