-- +goose Up
alter table orders alter column code type text;
