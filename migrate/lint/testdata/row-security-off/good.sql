-- +goose Up
alter table orders enable row level security, force row level security;
