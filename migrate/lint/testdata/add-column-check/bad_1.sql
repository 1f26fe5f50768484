-- +goose Up
alter table orders add column a int check (a > 0);
