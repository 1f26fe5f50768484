-- +goose Up
alter table legacy alter column x type text;
