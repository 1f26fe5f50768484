-- +goose Up
alter table orders alter column checked set not null, drop constraint orders_total;
