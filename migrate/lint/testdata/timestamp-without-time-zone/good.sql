-- +goose Up
alter table orders add column a timestamp with time zone;
