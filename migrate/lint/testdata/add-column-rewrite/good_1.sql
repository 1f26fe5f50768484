-- +goose Up
alter table orders add column a uuid, alter column a set default gen_random_uuid();
