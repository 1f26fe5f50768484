-- +goose Up
alter table orders add column a timestamptz default now(), add column b numeric generated always as (total * 2) virtual;
