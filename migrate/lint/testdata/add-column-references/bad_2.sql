-- +goose Up
alter table orders add column currency text default 'EUR' references currencies on delete set null on update cascade;
