-- +goose Up
alter table orders disable row level security;
