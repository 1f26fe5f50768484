-- +goose Up
alter table orders alter column state set not null;
