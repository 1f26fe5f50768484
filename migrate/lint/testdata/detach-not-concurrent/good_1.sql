-- +goose NO TRANSACTION
-- +goose Up
alter table events detach partition events_2030 concurrently;
