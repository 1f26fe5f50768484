-- +goose Up
alter table orders add primary key using index orders_note_key;
