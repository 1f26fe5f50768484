-- +goose Up
alter table orders alter column note type varchar(80);
