-- +goose Up
alter table orders add column a timestamptz not null default clock_timestamp();
