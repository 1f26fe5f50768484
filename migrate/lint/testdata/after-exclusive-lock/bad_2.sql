-- +goose Up
alter table orders add column a text;
alter table orders validate constraint orders_total;
