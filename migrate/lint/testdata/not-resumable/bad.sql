-- +goose NO TRANSACTION
-- +goose Up
alter table orders add column a text;
alter table customers add column a text;
