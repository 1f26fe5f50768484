-- +goose Up
alter table currencies add column a text constraint k unique;
