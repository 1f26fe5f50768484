-- +goose Up
alter table orders alter column total set data type numeric(12, 3);
