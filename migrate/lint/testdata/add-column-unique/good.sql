-- +goose Up
alter table currencies add column a text;
