-- +goose Up
alter table orders alter column checked set not null;
