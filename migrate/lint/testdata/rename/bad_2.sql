-- +goose Up
alter table orders rename to sales;
