-- +goose Up
alter table orders add column a int default 1 constraint positive check (a > 0);
