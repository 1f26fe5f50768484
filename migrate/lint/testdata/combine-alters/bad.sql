-- +goose Up
alter table orders add column a text;
alter table orders add column b text;
