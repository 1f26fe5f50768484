-- +goose Up
alter table orders add column a uuid default gen_random_uuid();
