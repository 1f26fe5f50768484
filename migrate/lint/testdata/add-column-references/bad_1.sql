-- +goose Up
alter table orders add column currency text references currencies (code);
