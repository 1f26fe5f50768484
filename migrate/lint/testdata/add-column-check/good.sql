-- +goose Up
alter table orders add column a int, add constraint positive check (a > 0) not valid;
