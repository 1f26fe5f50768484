-- +goose Up
alter table orders drop column note;
