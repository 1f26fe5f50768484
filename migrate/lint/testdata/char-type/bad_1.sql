-- +goose Up
alter table orders add column a char(2);
