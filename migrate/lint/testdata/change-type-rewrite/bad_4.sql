-- +goose Up
alter table orders alter column note type text using upper(note);
