-- +goose Up
alter table orders add a int default 1, add b text not null;
