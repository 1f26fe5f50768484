-- +goose Up
alter table orders add column a numeric generated always as (total * 2) stored;
