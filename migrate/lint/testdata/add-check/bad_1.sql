-- +goose Up
alter table orders add check (total > 1);
