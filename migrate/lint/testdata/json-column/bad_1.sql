-- +goose Up
alter table orders add column a json;
