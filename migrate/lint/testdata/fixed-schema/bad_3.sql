-- +goose Up
alter table app.orders add column a text;
