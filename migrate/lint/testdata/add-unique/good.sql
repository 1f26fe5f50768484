-- +goose Up
alter table orders add constraint orders_note unique using index orders_note_key;
